//! Definitions that anybody may send who may send records, and what they are evaluated on.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prost::Message;
use sluice::config::{Secret, TopicAllowlist};
use sluice::metrics::TemplateMetrics;
use sluice::templates::{Definition, NamedSecret, Rendered, Settings, Templates};
use sluice_proto::v1::{Record, Template};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
});

/// What no error may say.
const SECRET: &str = "k7-this-is-secret-and-32-bytes-long";
/// How long a record may take, unoptimised and on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A definition, after a zero byte a body, and after another an encoded `Template` that has the rest. None ends the process or takes
/// long, what fails tells no secret, and what succeeds is JSON within the bound.
pub(crate) fn record(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let Some(Ok(definition)) = parts.next().map(std::str::from_utf8) else {
        return;
    };
    let body = parts.next().map(<[u8]>::to_vec);
    let rest = parts.next().unwrap_or_default();
    let template = Template {
        definition: definition.to_owned(),
        inputs: body.map(Into::into),
        topics: vec!["t".to_owned()],
        ..Template::decode(rest).unwrap_or_default()
    };
    let secret = NamedSecret {
        value: Secret::new(SECRET),
        topics: TopicAllowlist(vec!["t".to_owned()]),
    };
    let settings = Settings {
        secrets: BTreeMap::from([("s".to_owned(), secret)]),
        max_output_bytes: 64 * 1024,
        ..Settings::default()
    };
    let bound = settings.max_output_bytes;
    let started = Instant::now();
    let templates = Templates::new(settings, TemplateMetrics::default());
    let record = Record {
        template: Some(template),
        ..Record::default()
    };
    let until = Instant::now() + LONG;
    let rendered = RUNTIME.block_on(templates.render(record, until));
    assert!(started.elapsed() < LONG, "took {:?}", started.elapsed());
    match rendered {
        Ok(Rendered { record, topic }) => {
            let read = Definition::compile(definition).expect("a definition");
            match topic {
                Some(topic) => {
                    assert!(read.parts().contains(&"topic"));
                    assert_eq!(record.topics, [topic]);
                }
                None => assert_eq!(record.topics, ["t"]),
            }
            assert!(record.template.is_none());
            if let Some(value) = &record.value {
                assert!(value.len() <= bound);
                serde_json::from_slice::<serde::de::IgnoredAny>(value).expect("JSON");
            }
            assert!(record.partition.is_none_or(|partition| partition >= 0));
        }
        Err(failure) => assert!(!failure.message.contains("this-is-secret"), "{}", failure.message),
    }
}
