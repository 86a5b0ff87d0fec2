//! The named selections of one section, handed out to its condition, and how expressions are put together.

use hashbrown::HashMap;

use super::expr::{Expr, Span};

/// The most operators that one condition may come to once its selections are written out.
pub const MAX_SIZE: usize = 200_000;

/// Several parts, all of which must hold.
pub fn and(parts: Vec<Expr>) -> Expr {
    joined(parts, Expr::And, |part| match part {
        Expr::And(inner) => Ok(inner),
        part => Err(part),
    })
}

/// Several parts, one of which must hold.
pub fn or(parts: Vec<Expr>) -> Expr {
    joined(parts, Expr::Or, |part| match part {
        Expr::Or(inner) => Ok(inner),
        part => Err(part),
    })
}

/// One part stands for itself, and parts of the same kind are taken in, so that later stages see all of them side by side.
fn joined(parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr, open: fn(Expr) -> Result<Vec<Expr>, Expr>) -> Expr {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match open(part) {
            Ok(mut inner) => flat.append(&mut inner),
            Err(part) => flat.push(part),
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { join(flat) }
}

/// How many operators an expression has.
pub fn size(expr: &Expr) -> usize {
    match expr {
        Expr::Const(_) => 1,
        Expr::And(parts) | Expr::Or(parts) => 1 + parts.iter().map(size).sum::<usize>(),
        Expr::Not(part) => 1 + size(part),
        Expr::Test(test) => 1 + test.any_of.len(),
        Expr::Each(each) => 1 + size(&each.condition),
    }
}

/// The named selections of one section.
#[derive(Default)]
pub struct Selections<'a> {
    list: Vec<Selection<'a>>,
    index: HashMap<&'a str, usize>,
    /// How many operators were handed out.
    size: usize,
}

struct Selection<'a> {
    name: &'a str,
    span: Span,
    /// `None`: it has errors, which are told.
    expr: Option<Expr>,
    size: usize,
    used: bool,
}

impl<'a> Selections<'a> {
    /// Adds a selection; `None` if it has errors, which are told.
    pub fn add(&mut self, name: &'a str, span: Span, expr: Option<Expr>) {
        let size = expr.as_ref().map_or(0, size);
        self.index.insert(name, self.list.len());
        self.list.push(Selection { name, span, expr, size, used: false });
    }

    /// Whether more was handed out than one condition may hold.
    pub fn too_large(&self) -> bool {
        self.size > MAX_SIZE
    }

    /// The names, in the order written.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.list.iter().map(|selection| selection.name)
    }

    /// A copy of a selection; the outer `None`: there is none of that name. Beyond the allowed size nothing is copied any
    /// more, and the caller gives the whole condition up.
    pub fn take(&mut self, name: &str) -> Option<Option<Expr>> {
        let selection = &mut self.list[*self.index.get(name)?];
        selection.used = true;
        self.size += selection.size + 1;
        Some(if self.size > MAX_SIZE { None } else { selection.expr.clone() })
    }

    /// What was never taken, except names that begin with `_`.
    pub fn unused(&self) -> impl Iterator<Item = (&'a str, Span)> {
        let unused = self.list.iter().filter(|selection| !selection.used && !selection.name.starts_with('_'));
        unused.map(|selection| (selection.name, selection.span))
    }
}
