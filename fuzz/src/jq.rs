//! jq programs, templates, and what a filter says of places and fields.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use sluice::jq::template::{Piece, Template, pieces};
use sluice::jq::{Failure, Limits, Program, Value, run};
use sluice::read::fields::Fields;
use sluice::read::filter::place::{Step, Where};
use tokio::runtime::Runtime;

/// Enough to do something, and little enough for many programs a second.
const LIMITS: Limits = Limits {
    steps: 20_000,
    bytes: 1024 * 1024,
    output: 64 * 1024,
    time: Duration::from_millis(500),
};
/// How long an evaluation may take, unoptimised and on a busy machine.
const LONG: Duration = Duration::from_secs(20);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
});

fn evaluate<T: Send + 'static>(
    evaluate: impl FnOnce(&sluice::jq::Scope) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let started = Instant::now();
    let evaluated = RUNTIME.block_on(run(move |turn| turn.within(LIMITS, evaluate)));
    assert!(started.elapsed() < LONG, "took {:?}", started.elapsed());
    let evaluated = evaluated.and_then(|evaluated| evaluated);
    if let Err(failure) = &evaluated {
        assert_ne!(*failure, Failure::Fault);
        assert!(failure.to_string().len() < 2000, "{failure}");
    }
    evaluated
}

/// A program, and after a zero byte its input. No program ends the process, takes long, or gives what is no JSON; those that
/// succeed give the same again.
pub(crate) fn program(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else {
        return;
    };
    let input = parts.next().unwrap_or(b"null").to_vec();
    let Ok(program) = Program::compile(text, &["$key"]) else {
        return;
    };
    let outputs = || {
        let (program, input) = (program.clone(), input.clone());
        evaluate(move |scope| {
            let input = Value::from_json(&input).unwrap_or_else(|_| Value::from("no JSON"));
            let mut all = Vec::new();
            scope.outputs(&program, input, &[Value::from("k")], |output| {
                let mut json = Vec::new();
                scope.write(&output, &mut json);
                all.push(json);
                all.len() < 100
            })?;
            Ok(all)
        })
    };
    if let Ok(all) = outputs() {
        for json in &all {
            let text = std::str::from_utf8(json).expect("UTF-8");
            assert!(!text.contains(['\n', '\r']), "{text}");
            // serde_json reads nothing deeper than 127.
            if let Err(error) = serde_json::from_str::<Json>(text) {
                assert!(error.to_string().contains("recursion limit"), "{error}: {text}");
            }
        }
        if !text.contains("now") {
            assert_eq!(outputs().as_ref(), Ok(&all));
        }
    }
}

/// A template: JSON, or text. What has no expressions stays as it is, and its pieces are the whole text.
pub(crate) fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(pieces) = pieces(text) {
        let plain: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.to_string(),
                Piece::Expression(expression) => format!("{{{{{expression}}}}}"),
            })
            .collect();
        // An escaped brace loses its backslash.
        let squeezed = |text: &str| -> String {
            text.chars()
                .filter(|c| !c.is_whitespace() && *c != '\\')
                .collect()
        };
        assert_eq!(
            squeezed(&plain).len(),
            squeezed(text).len(),
            "{text:?} is {pieces:?}"
        );
    }
    let json: Json = serde_json::from_str(text).unwrap_or_else(|_| text.into());
    let Ok(template) = Template::parse(&json, &["$key"]) else {
        return;
    };
    let constant = template.is_constant();
    let rendered = evaluate(move |scope| {
        template.text(scope, &Value::Null, &[Value::from("k")])?;
        template.json(scope, &Value::Null, &[Value::from("k")])
    });
    if let Ok(rendered) = rendered {
        let rendered: Json = serde_json::from_slice(&rendered).expect("JSON");
        if constant && !text.contains("{{") {
            assert!(alike(&rendered, &json));
        }
    } else {
        assert!(!constant, "{text:?} fails");
    }
}

/// A place is the one that serde_json's pointer finds, where its indices count from the start.
pub(crate) fn place(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(place) = Where::parse(text) else { return };
    assert_eq!(Where::parse(place.text()).as_ref(), Ok(&place));
    // A value that has what is looked for there, built from inside out.
    let mut value = serde_json::json!("found");
    for step in place.steps().iter().rev() {
        value = match step {
            Step::Name(name) => serde_json::json!({ name: value }),
            Step::Index(index @ -20..=20) => {
                let size = usize::try_from(index.unsigned_abs()).expect("small") + 1;
                let mut items = vec![Json::Null; size];
                let at = if *index < 0 { 1 } else { size - 1 };
                items[at] = value;
                Json::from(items)
            }
            Step::Index(_) => return,
        };
    }
    if place.steps().len() > 100 {
        return;
    }
    let condition = text.split_once("==").or_else(|| text.split_once("!="));
    let at_its_end = condition.is_some_and(|(path, _)| !path.contains(['\'', '"']));
    if at_its_end && let Some((path, _)) = condition {
        let found = Where::parse(&format!("{path}==\"found\"")).expect("the same place");
        assert!(
            found.holds_json(value.to_string().as_bytes()),
            "{text:?} in {value}"
        );
    }
}

/// Fields are read or refused.
pub(crate) fn fields(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(fields) = Fields::parse(text)
    {
        assert_eq!(
            Fields::parse(&format!("{text},id")).is_ok(),
            text.split(',').count() < 64,
            "{fields:?}"
        );
    }
}

/// Whether two values are the same. serde_json reads a number of many digits to within its last one.
fn alike(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => {
            one == other
                || one
                    .as_f64()
                    .zip(other.as_f64())
                    .is_some_and(|(one, other)| (one - other).abs() <= one.abs().max(other.abs()) * 1e-14)
        }
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| alike(one, other)))
        }
        _ => one == other,
    }
}
