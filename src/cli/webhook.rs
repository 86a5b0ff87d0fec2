//! `auditwatch webhook kubeconfig`: what the API server has to be told.

use std::io::{self, Write};

use clap::Subcommand;
use serde_json::Value;

use super::exit::Exit;

/// Help with the API server's side of the webhook.
#[derive(Debug, clap::Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Print the file for kube-apiserver's --audit-webhook-config-file, and the flags that go with it.
    Kubeconfig(KubeconfigArgs),
}

/// Paths are those of the control plane's machine; nothing is read here.
#[derive(Debug, clap::Args)]
struct KubeconfigArgs {
    /// Where auditwatch listens, e.g. https://auditwatch.example:9443/.
    #[arg(long, value_name = "URL")]
    server: String,

    /// The authority of auditwatch's certificate.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,

    /// The API server's certificate for auditwatch.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_cert_file: Option<String>,

    /// Its key.
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    client_key_file: Option<String>,

    /// The token that auditwatch asks for (sources: token_file), in a file that the API server reads.
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: &WebhookArgs) -> anyhow::Result<Exit> {
    let WebhookCommand::Kubeconfig(args) = &args.command;
    anyhow::ensure!(
        args.server.starts_with("https://") || args.server.starts_with("http://"),
        "--server {}: write the whole URL, e.g. https://auditwatch.example:9443/",
        args.server
    );
    io::stdout().lock().write_all(kubeconfig(args).as_bytes())?;
    Ok(Exit::Done)
}

/// The default wait of 30 s is longer than most windows; a truncated event hides its bodies.
const FLAGS: &str = "\
# kube-apiserver flags (with an audit policy):
#   --audit-webhook-config-file=THIS-FILE
#   --audit-webhook-mode=batch
#   --audit-webhook-batch-max-wait=1s
#   --audit-webhook-batch-max-size=400
#   --audit-webhook-initial-backoff=1s
";

fn kubeconfig(args: &KubeconfigArgs) -> String {
    // A JSON string is a YAML string.
    let member = |indent: &str, key: &str, value: &Option<String>| {
        let line = |text: &String| format!("{indent}{key}: {}\n", Value::from(text.as_str()));
        value.as_ref().map(line).unwrap_or_default()
    };
    let cluster = member("      ", "server", &Some(args.server.clone()))
        + &member("      ", "certificate-authority", &args.ca_file);
    let user = member("      ", "client-certificate", &args.client_cert_file)
        + &member("      ", "client-key", &args.client_key_file)
        + &member("      ", "tokenFile", &args.token_file);
    let user = if user.is_empty() { "    user: {}\n".to_owned() } else { format!("    user:\n{user}") };
    format!(
        "{FLAGS}apiVersion: v1\nkind: Config\nclusters:\n  - name: auditwatch\n    cluster:\n{cluster}users:\n  \
         - name: kube-apiserver\n{user}contexts:\n  - name: auditwatch\n    context:\n      cluster: auditwatch\n      \
         user: kube-apiserver\ncurrent-context: auditwatch\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_kubeconfig() {
        let some = |text: &str| Some(text.to_owned());
        let args = KubeconfigArgs {
            server: "https://a:9443/".into(),
            ca_file: some("/etc/ca: 1.crt"),
            client_cert_file: some("c.crt"),
            client_key_file: some("c.key"),
            token_file: None,
        };
        let read: Value = serde_saphyr::from_str(&kubeconfig(&args)).unwrap();
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority"], "/etc/ca: 1.crt");
        assert_eq!(read["users"][0]["user"]["client-key"], "c.key");
        assert_eq!(read["contexts"][0]["context"]["user"], read["users"][0]["name"]);
        let bare = KubeconfigArgs { ca_file: None, client_cert_file: None, client_key_file: None, ..args };
        let read: Value = serde_saphyr::from_str(&kubeconfig(&bare)).unwrap();
        assert_eq!(read["users"][0]["user"], serde_json::json!({}));
    }
}
