//! The filter in the bootstrap: which wasm filter is Sluice's, and its PluginConfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use sluice_settings::Problem;

use super::{EnvoyReport, FilterConfig, Node};

/// The PluginConfig of `filter`, an element of `http_filters`, if it is Sluice's.
pub(super) fn find<'a>(filter: &Node<'a>) -> Option<Node<'a>> {
    let mut typed = filter.get("typed_config")?;
    if type_of(&typed)?.ends_with(".TypedStruct") {
        typed.string("type_url").filter(|url| url.ends_with(".Wasm"))?;
        typed = typed.get("value")?;
    } else {
        type_of(&typed).filter(|url| url.ends_with(".Wasm"))?;
    }
    let plugin = typed.get("config")?;
    let named = |field| plugin.string(field) == Some("sluice");
    let code = plugin.at(&["vm_config", "code"]);
    let local = code.as_ref().and_then(|code| code.get("local"));
    let remote = code.as_ref().and_then(|code| code.at(&["remote", "http_uri"]));
    let file = local.and_then(|local| local.string("filename"));
    let uri = remote.and_then(|remote| remote.string("uri"));
    let loads = [file, uri]
        .into_iter()
        .flatten()
        .any(|name| name.contains("sluice_filter"));
    (named("name") || named("root_id") || loads).then_some(plugin)
}

/// The type URL of an `Any`.
fn type_of<'a>(any: &Node<'a>) -> Option<&'a str> {
    any.string("@type")
}

/// Checks what Envoy must be told beside the configuration.
pub(super) fn check_flags(plugin: &Node<'_>, report: &mut EnvoyReport) {
    let flag = plugin.get("allow_on_headers_stop_iteration");
    // It is a BoolValue: protobuf JSON writes it as a plain boolean.
    if flag.and_then(|flag| flag.value().as_bool()) != Some(true) {
        report.error(Problem {
            path: plugin.path_to("allow_on_headers_stop_iteration"),
            message:
                "must be true: without it Envoy hands the filter no body, and every request with one hangs"
                    .to_owned(),
        });
    }
    if plugin.string("failure_policy") != Some("FAIL_RELOAD") {
        report.warning(
            plugin.path_to("failure_policy"),
            "should be FAIL_RELOAD: otherwise a filter that failed once stays failed",
        );
    }
}

/// Reads the configuration as Envoy would hand it to the filter.
///
/// # Errors
/// Everything wrong with it, with paths from the root of the bootstrap.
pub(super) fn configuration(plugin: &Node<'_>) -> Result<FilterConfig, Vec<Problem>> {
    let Some(any) = plugin.get("configuration") else {
        return Ok(FilterConfig::default());
    };
    let wrong = |message: &str| {
        vec![Problem {
            path: any.path().to_owned(),
            message: message.to_owned(),
        }]
    };
    let value = any.get("value");
    let text = value.as_ref().and_then(|value| value.value().as_str());
    let read = match type_of(&any).and_then(|url| url.rsplit('.').next()) {
        Some("Struct") => FilterConfig::from_tree(value.as_ref().map_or(&Json::Null, Node::value)),
        Some("StringValue") => FilterConfig::from_json(text.unwrap_or_default().as_bytes()),
        Some("BytesValue") => match STANDARD.decode(text.unwrap_or_default()) {
            Ok(bytes) => FilterConfig::from_json(&bytes),
            Err(_) => return Err(wrong("its value is not base64")),
        },
        _ => {
            return Err(wrong(
                "must say \"@type\": type.googleapis.com/google.protobuf.Struct, and hold the configuration in `value`",
            ));
        }
    };
    let base = value.as_ref().unwrap_or(&any);
    read.map_err(|problems| {
        let absolute = |problem: Problem| Problem {
            path: base.path_to(&problem.path),
            message: problem.message,
        };
        problems.into_iter().map(absolute).collect()
    })
}
