//! The tests of a problem in evalplus' format: `evalplus.py`, and calls of it.
//!
//! Two values are the same if they are equal; or if the tolerance is not 0, they are of one type, and all their numbers differ by at most
//! `atol + 1e-7 · |expected|`, as `numpy.allclose` computes it. The tolerance is the problem's `atol`; if that is 0, it becomes 1e-6 once a result of
//! the reference is a float or a list or tuple of floats alone, and stays so for the rest of `base_input` or `plus_input`. A result of
//! `find_zero` (HumanEval/32): the polynomial's value decides. Arguments are handed on as they are written, integers of any length included.
//!
//! Source: evalplus `eval/__init__.py`.

use serde_json::Value;

/// Returns the statement that compares the candidate with the reference on a list of argument lists, which is written as `inputs` in JSON.
pub fn test(entry_point: &str, inputs: &str, tolerance: f64) -> String {
    let literal = Value::from(inputs);
    let parse = if has_long_number(inputs) { ", parse_int=_integer" } else { "" };
    match entry_point {
        "find_zero" => format!("_check_zero({entry_point}, _json.loads({literal}{parse}), {tolerance:?})\n"),
        _ => format!("_check({entry_point}, _reference, _json.loads({literal}{parse}), {tolerance:?})\n"),
    }
}

/// Returns whether a text has a number that Python's `int` may refuse: more than 4,300 digits.
fn has_long_number(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_digit()).any(|digits| digits.len() > 4000)
}

/// Returns Python source that defines the comparison and, in a separate namespace so that it never calls the candidate, `_reference`.
pub fn reference_setup(source: &str, entry_point: &str) -> String {
    let source = Value::from(source);
    format!(
        "\n{}\n\n_space = {{}}\nexec(compile({source}, 'reference', 'exec'), _space)\n_reference = _space['{entry_point}']\n",
        include_str!("evalplus.py").trim_end()
    )
}
