//! Templates of the configuration (`templates.named`) that `writes` has applied to records of some topics: records that come
//! over REST or a WebSocket, and say nothing of templates by themselves.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use bytes::Bytes;
use sluice_filter::config::CREDENTIAL_HEADERS;
use sluice_proto::v1::{self, ErrorClass};

use super::Gateway;
use crate::kafka::record::Failure;
use crate::templates::Named;

/// The request that a record came by.
pub(crate) struct Origin<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}

impl Origin<'_> {
    fn headers(&self) -> Vec<v1::Header> {
        let carried = self
            .headers
            .iter()
            .filter(|(name, _)| !CREDENTIAL_HEADERS.contains(&name.as_str()));
        carried
            .map(|(name, value)| header(name.as_str(), value))
            .collect()
    }

    fn by(&self, named: &Named) -> Vec<v1::Header> {
        let said = |(name, by): &(String, HeaderName)| Some(header(name, self.headers.get(by)?));
        named.by.iter().filter_map(said).collect()
    }
}

fn header(name: &str, value: &HeaderValue) -> v1::Header {
    v1::Header {
        name: name.to_owned(),
        value: Some(value.as_bytes().to_vec()),
    }
}

impl Gateway {
    /// Has a record made by the template that `writes` names for its topic, where it names one. `inputs` says what of its value
    /// the expressions see.
    ///
    /// # Errors
    /// It is a tombstone, and the template makes values; or its value is none that there are inputs in.
    pub(crate) fn apply_template(
        &self,
        record: &mut v1::Record,
        origin: &Origin<'_>,
        inputs: impl FnOnce(&Bytes) -> Result<Option<Bytes>, Failure>,
    ) -> Result<(), Failure> {
        let cluster = match record.cluster.as_str() {
            "" => self.routes.default_cluster().unwrap_or_default(),
            cluster => cluster,
        };
        let topic = record.topics.first().map_or("", String::as_str);
        let Some((write, named)) = self.templates.of_topic(cluster, topic) else {
            return Ok(());
        };
        let whole = named.definition.makes_value();
        let inputs = match &record.value {
            Some(value) => inputs(value)?,
            None if whole => {
                let name = &write.template;
                let text = format!(
                    "a tombstone cannot be written to topic {topic:?} here: template {name:?} makes the values of its records \
                     (`writes` of the sidecar)"
                );
                return Err(Failure::new(ErrorClass::InvalidRequest, text));
            }
            None => None,
        };
        if whole {
            record.value = None;
        }
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        record.template = Some(v1::Template {
            definition: serde_json::json!({ "name": write.template }).to_string(),
            inputs,
            method: text(origin.method),
            path: text(origin.uri.path()),
            query: text(origin.uri.query().unwrap_or_default()),
            headers: origin.headers(),
            by: origin.by(named),
            topics: std::mem::take(&mut record.topics),
        });
        Ok(())
    }
}
