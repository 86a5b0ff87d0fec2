{{- define "auditwatch.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "auditwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "auditwatch.labels" -}}
{{ include "auditwatch.selector" . }}
app.kubernetes.io/component: {{ .Values.mode }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "auditwatch.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The configuration file: what the mode needs, and `config` over it. */}}
{{- define "auditwatch.config" -}}
{{- $config := dict "cluster" .Values.cluster "sinks" .Values.sinks -}}
{{- $_ := set $config "admin" (dict "listen" "0.0.0.0:9090") -}}
{{/* A member of many keeps no state of its own. */}}
{{- if not (and (eq .Values.mode "kafka") .Values.kafka.distributed) -}}
{{- $_ := set $config "store" (dict "path" "/var/lib/auditwatch/state.db") -}}
{{- end -}}
{{- if eq .Values.mode "tail" -}}
{{- $_ := set $config "sources" (list (dict "type" "file" "paths" .Values.tail.paths "start_at" .Values.tail.startAt)) -}}
{{- else if eq .Values.mode "webhook" -}}
{{- $tls := dict "cert_file" "/etc/auditwatch/tls/tls.crt" "key_file" "/etc/auditwatch/tls/tls.key" "client_ca_file" "/etc/auditwatch/tls/ca.crt" -}}
{{- $_ := set $config "sources" (list (dict "type" "webhook" "listen" "0.0.0.0:9443" "tls" $tls)) -}}
{{- else -}}
{{- $brokers := required "kafka.brokers: name at least one, host:port" (.Values.kafka.brokers | default nil) -}}
{{- $source := dict "type" "kafka" "brokers" $brokers "topics" .Values.kafka.topics "group" .Values.kafka.group -}}
{{- if .Values.kafka.clusterFrom -}}{{- $_ := set $source "cluster_from" .Values.kafka.clusterFrom -}}{{- end -}}
{{- if .Values.kafka.options -}}{{- $_ := set $source "options" .Values.kafka.options -}}{{- end -}}
{{- $_ := set $config "sources" (list $source) -}}
{{- if .Values.kafka.distributed -}}{{- $_ := set $config "distributed" .Values.kafka.distributed -}}{{- end -}}
{{- end -}}
{{- if .Values.extraRules -}}{{- $_ := set $config "add_rules" (list "/etc/auditwatch/rules") -}}{{- end -}}
{{- if .Values.site -}}{{- $_ := set $config "site" "/etc/auditwatch/config/site.yaml" -}}{{- end -}}
{{- mustMergeOverwrite $config .Values.config | toYaml -}}
{{- end -}}

{{- define "auditwatch.pod" -}}
metadata:
  labels:
    {{- include "auditwatch.labels" . | nindent 4 }}
  annotations:
    auditwatch/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "9090"
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "auditwatch.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- if eq .Values.mode "tail" }}
    runAsNonRoot: {{ ne (int .Values.tail.runAsUser) 0 }}
    runAsUser: {{ .Values.tail.runAsUser }}
    runAsGroup: {{ .Values.tail.runAsGroup }}
    fsGroup: {{ .Values.tail.runAsGroup }}
    {{- else }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: auditwatch
      image: {{ include "auditwatch.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, -c, /etc/auditwatch/config/auditwatch.yaml]
      ports:
        - {name: metrics, containerPort: 9090}
        {{- if eq .Values.mode "webhook" }}
        - {name: webhook, containerPort: 9443}
        {{- end }}
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        periodSeconds: 20
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/auditwatch/config, readOnly: true}
        - {name: state, mountPath: /var/lib/auditwatch}
        {{- if eq .Values.mode "tail" }}
        - {name: audit, mountPath: {{ .Values.tail.hostPath }}, readOnly: true}
        {{- else if eq .Values.mode "webhook" }}
        - {name: tls, mountPath: /etc/auditwatch/tls, readOnly: true}
        {{- end }}
        {{- if .Values.extraRules }}
        - {name: rules, mountPath: /etc/auditwatch/rules, readOnly: true}
        {{- end }}
        {{- range .Values.secretFiles }}
        - {name: secret-{{ .name }}, mountPath: /etc/auditwatch/secrets/{{ .name }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "auditwatch.name" . }}}
    {{- if eq .Values.mode "tail" }}
    - name: state
      hostPath: {path: {{ .Values.tail.statePath }}, type: DirectoryOrCreate}
    - name: audit
      hostPath: {path: {{ .Values.tail.hostPath }}, type: Directory}
    {{- else if eq .Values.mode "webhook" }}
    - name: state
      persistentVolumeClaim: {claimName: {{ include "auditwatch.name" . }}}
    - name: tls
      secret: {secretName: {{ required "webhook.tlsSecret: name a Secret with tls.crt, tls.key and ca.crt" .Values.webhook.tlsSecret }}, defaultMode: 288}
    {{- else }}
    - name: state
      emptyDir: {sizeLimit: 5Gi}
    {{- end }}
    {{- if .Values.extraRules }}
    - name: rules
      configMap: {name: {{ include "auditwatch.name" . }}-rules}
    {{- end }}
    {{- range .Values.secretFiles }}
    - name: secret-{{ .name }}
      secret: {secretName: {{ .secretName }}, defaultMode: 288}
    {{- end }}
  {{- if eq .Values.mode "tail" }}
  nodeSelector:
    node-role.kubernetes.io/control-plane: ""
    {{- with .Values.nodeSelector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  tolerations:
    - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
    {{- with .Values.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- else }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if eq .Values.mode "kafka" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "auditwatch.selector" . | nindent 10 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
