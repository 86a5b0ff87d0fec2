//! Nothing: see `tests/verdicts.rs`, which holds auditwatch's verdicts against those of an independent Sigma engine.
