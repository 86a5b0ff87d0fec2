//! The compiled rule set: conditions, index and captures, shared by all workers.

use std::sync::Arc;

use super::captures::CaptureTable;
use super::condition::{Condition, Doubt, Verdict};
use super::index::{Bits, Cache, Index};
use super::necessary::residual;
use crate::event::path::Field;
use crate::event::view::Event;
use crate::rules::{RuleSet, expr::Expr};

/// Everything a worker needs to match events.
#[derive(Debug)]
pub struct Program {
    /// The rules it was made from.
    pub set: Arc<RuleSet>,
    /// What matches carry along.
    pub captures: Arc<CaptureTable>,
    /// The captured fields, resolved; the index is the capture's number.
    pub capture_fields: Vec<Field>,
    /// Whole conditions, for judging without the index.
    whole: Vec<Condition>,
    /// What is left of them once the index has let an event pass.
    residual: Vec<Condition>,
    index: Index,
    /// Rules that are judged at any stage, because they name it.
    stage_rules: Bits,
    /// All rules.
    all_rules: Bits,
}

/// A rule that could not be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: rule `{title}`: {source}; simplify the regular expression")]
pub struct CompileError {
    /// File of the rule.
    pub file: String,
    /// Line of the rule.
    pub line: u32,
    /// Title of the rule.
    pub title: String,
    /// What the regex crate says.
    pub source: regex::Error,
}

impl Program {
    /// Compiles a rule set.
    ///
    /// # Errors
    /// The first rule whose regular expression is none, or larger than 1 MiB compiled.
    pub fn compile(set: Arc<RuleSet>) -> Result<Program, CompileError> {
        let (mut whole, mut left) = (Vec::with_capacity(set.rules.len()), Vec::with_capacity(set.rules.len()));
        for rule in &set.rules {
            let error = |source| CompileError {
                file: rule.meta.file.clone(),
                line: rule.meta.span.line,
                title: rule.meta.title.clone(),
                source,
            };
            whole.push(Condition::compile(&rule.condition).map_err(error)?);
            left.push(Condition::compile(&residual(&rule.condition)).map_err(error)?);
        }
        let exprs: Vec<&Expr> = set.rules.iter().map(|rule| &rule.condition).collect();
        let index = Index::new(&exprs);
        let (mut stage_rules, mut all_rules) = (vec![0u64; index.words()], vec![0u64; index.words()]);
        for (rule, spec) in set.rules.iter().enumerate() {
            all_rules[rule / 64] |= 1 << (rule % 64);
            if spec.names_stage {
                stage_rules[rule / 64] |= 1 << (rule % 64);
            }
        }
        let captures = Arc::new(CaptureTable::new(&set));
        let capture_fields = captures.fields.iter().map(|field| Field::parse(field)).collect();
        Ok(Program { set, captures, capture_fields, whole, residual: left, index, stage_rules, all_rules })
    }

    /// Fills `candidates` with the rules that may match the event; `outcome` says whether rules that do not name a stage
    /// are judged at all.
    pub fn candidates(&self, event: &Event<'_>, outcome: bool, candidates: &mut Bits, cache: &mut Cache) {
        candidates.clear();
        candidates.extend_from_slice(if outcome { &self.all_rules } else { &self.stage_rules });
        self.index.narrow(event, outcome, candidates, cache);
    }

    /// The same without the index: every rule that is judged at all.
    pub fn candidates_unindexed(&self, outcome: bool, candidates: &mut Bits) {
        candidates.clear();
        candidates.extend_from_slice(if outcome { &self.all_rules } else { &self.stage_rules });
    }

    /// The verdict of one rule that the index let pass.
    pub fn judge_candidate(&self, rule: usize, event: &Event<'_>, doubt: &Doubt) -> Verdict {
        self.residual[rule].judge(event, doubt)
    }

    /// The verdict of one rule, whole.
    pub fn judge(&self, rule: usize, event: &Event<'_>, doubt: &Doubt) -> Verdict {
        self.whole[rule].judge(event, doubt)
    }
}
