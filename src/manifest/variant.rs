//! A setting that is one of several shapes: an enum of Rust whose variants have fields.

use serde_json::Value as Json;

use super::check::{Check, join};
use super::diagnostic::Diagnostic;
use super::document::{Node, Value};
use super::fault::Faults;
use super::shape::{Form, Shape, quoted};
use super::suggest;

impl Check<'_> {
    /// By its tag, by the one key that names the variant, else whichever branch fits best.
    pub(super) fn one_of(&mut self, node: &Node, shape: Shape<'_>, branches: &[Shape<'_>], path: &str) -> Option<Json> {
        if let Value::Table(table) = &node.value {
            let tables: Vec<_> = branches.iter().filter(|branch| matches!(branch.form(), Form::Table)).collect();
            let tag = tables
                .first()
                .and_then(|first| first.keys().find(|key| tables.iter().all(|branch| tag_of(**branch, key).is_some())));
            if let Some(tag) = tag {
                return self.tagged(node, shape, &tables, tag, path);
            }
            if let [(key, entry)] = table.in_order().as_slice() {
                let variant = tables.iter().find(|branch| branch.required().eq([*key]));
                if let Some(variant) = variant {
                    return self.table(node.span, table, &[**variant], &[], path);
                }
                let known: Vec<_> = tables.iter().flat_map(|branch| branch.required()).collect();
                if !known.is_empty() && tables.iter().all(|branch| branch.keys().count() == 1) {
                    self.faults.add(path);
                    let diagnostic = Diagnostic::error(format!("unknown key '{}'", join(path, key)))
                        .at(entry.key, "")
                        .hint(suggest::hint(key, "it is one of", known.iter().copied()));
                    self.diagnostics.push(diagnostic);
                    return None;
                }
            }
        }
        let (told, length) = (self.diagnostics.len(), self.faults.length());
        let mut best: Option<(Vec<Diagnostic>, Faults, Option<Json>)> = None;
        for branch in branches.iter().filter(|branch| takes(&branch.form(), &node.value)) {
            let json = self.value(node, *branch, path);
            let (found, faults) = (self.diagnostics.take_after(told), self.faults.take_after(length));
            if best.as_ref().is_none_or(|(least, ..)| found.len() < least.len()) {
                best = Some((found, faults, json));
            }
        }
        let Some((found, faults, json)) = best else {
            return self.mismatch(node, shape, &Form::OneOf(branches.to_vec()), path);
        };
        self.faults.append(faults);
        self.diagnostics.extend(found);
        json
    }

    /// A table whose key `tag` names which of `variants` it is.
    fn tagged(
        &mut self,
        node: &Node,
        shape: Shape<'_>,
        variants: &[&Shape<'_>],
        tag: &str,
        path: &str,
    ) -> Option<Json> {
        let table = node.as_table()?;
        let known: Vec<_> = variants.iter().filter_map(|branch| tag_of(**branch, tag)).collect();
        let Some(entry) = table.get(tag) else {
            self.faults.add(path);
            let diagnostic = Diagnostic::error(format!("missing setting '{}' of {}", join(path, tag), self.owner));
            self.diagnostics.push(diagnostic.at(node.span, "").hint(format!("it takes one of {}", quoted(&known))));
            return None;
        };
        let path_of_tag = join(path, tag);
        let Some(text) = entry.node.as_str() else {
            return self.mismatch(&entry.node, shape, &Form::Choice(known), &path_of_tag);
        };
        match variants.iter().find(|branch| tag_of(***branch, tag) == Some(text)) {
            Some(branch) => self.table(node.span, table, &[**branch], &[], path),
            None => self.choice(&entry.node, &known, text, &path_of_tag),
        }
    }
}

/// The string that a table of this shape must have at `key`, if it must have just one.
fn tag_of<'s>(branch: Shape<'s>, key: &str) -> Option<&'s str> {
    match branch.key(key)?.form() {
        Form::Choice(choices) if branch.required().any(|required| required == key) => match choices.as_slice() {
            [only] => Some(only),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a value is of the form's type, whatever is inside it.
pub(super) fn takes(form: &Form<'_>, value: &Value) -> bool {
    match (form, value) {
        (Form::Anything, _)
        | (Form::Choice(_) | Form::Text { .. }, Value::String(_))
        | (Form::Integer { .. }, Value::Integer(_))
        | (Form::Number(_), Value::Integer(_) | Value::Float(_))
        | (Form::Boolean, Value::Boolean(_))
        | (Form::Array { .. } | Form::Tuple(_), Value::Array(_))
        | (Form::Table, Value::Table(_)) => true,
        (Form::OneOf(branches), value) => branches.iter().any(|branch| takes(&branch.form(), value)),
        _ => false,
    }
}
