//! YAML text to a tree.

use serde_json::Value;
use sluice_settings::Problem;

/// Parses one YAML document. A key written twice is an error, as is a second document.
///
/// # Errors
/// The first syntax error, its line and column as the path. No text of the document is quoted, since it may
/// hold secrets.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let path = error
            .location()
            .map(|at| format!("line {}, column {}", at.line(), at.column()))
            .unwrap_or_default();
        Problem {
            path,
            message: what(&error),
        }
    })
}

/// Parses the value of an environment variable: a scalar, or a list or mapping in flow style.
///
/// # Errors
/// A sentence that quotes nothing of the value.
pub(super) fn parse_value(text: &str) -> Result<Value, &'static str> {
    serde_saphyr::from_str_with_options(text, options()).map_err(
        |_| "is not a YAML value; put it into quotes, or write a list as [a, b] and a mapping as {a: b}",
    )
}

/// `yes`, `on` and `0660` are strings, as YAML 1.2 has it for the first two and file modes need it for the last.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    }
}

fn what(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is set twice"),
        Error::DuplicateMappingKey { .. } => "a key is set twice".to_owned(),
        Error::MultipleDocuments { .. } => "a second document starts here; only one is read".to_owned(),
        // The scanner's own words, which quote nothing.
        Error::ExternalMessage { msg, .. } => format!("not valid YAML: {msg}"),
        _ => "not valid YAML".to_owned(),
    }
}
