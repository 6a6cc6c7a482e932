//! What a subscription's options say of its sink.

use humantime::format_duration;

use super::Page;
use crate::subscriptions::sink::client::{Settings, Tls};
use crate::subscriptions::sink::{
    Authentication, Batch, BatchFormat, BatchItems, CloudEvents, Mode, Options, Signatures, Statuses,
};

/// In place of what may be a secret.
const HIDDEN: &str = "***";

impl Page<'_> {
    /// The lines of a sink's options. Values of headers, templates, credentials, keys and certificates may be secrets, and are not
    /// shown.
    pub(super) fn sink(&mut self, path: &str, options: &Options) {
        let Options {
            method,
            headers,
            templates,
            body,
            raw,
            batch: Batch { format, items },
            cloudevents,
            signatures: Signatures { standard, port },
            authentication,
            reading,
            client,
            proxy,
            ..
        } = options;
        self.line(&format!("{path}.method"), method);
        let names = headers.iter().map(|(name, _)| name);
        let names = names.chain(templates.iter().map(|(name, _)| name));
        self.list(
            &format!("{path}.headers"),
            names.map(|name| format!("{name}: {HIDDEN}")),
        );
        self.line(
            &format!("{path}.body"),
            body.as_ref().map_or("the value", |_| HIDDEN),
        );
        self.line(&format!("{path}.raw"), raw);
        let format = match format {
            BatchFormat::Json => "json",
            BatchFormat::Ndjson => "ndjson",
        };
        let items = match items {
            BatchItems::Value => "value",
            BatchItems::Record => "record",
        };
        self.line(&format!("{path}.batch_format"), format);
        self.line(&format!("{path}.batch_items"), items);
        match cloudevents {
            None => self.line(&format!("{path}.cloudevents"), "none"),
            Some(CloudEvents { mode, source, r#type }) => {
                let mode = match mode {
                    Mode::Binary => "binary",
                    Mode::Structured => "structured",
                };
                let path = format!("{path}.cloudevents");
                self.line(&format!("{path}.mode"), mode);
                let source = source.as_deref().unwrap_or("/topics/{topic}");
                self.line(&format!("{path}.source"), source);
                self.line(&format!("{path}.type"), r#type);
            }
        }
        let secrets = standard.iter().map(|_| HIDDEN.to_owned());
        self.list(&format!("{path}.signature.secrets"), secrets);
        let port = port.as_ref().map_or("none", |_| HIDDEN);
        self.line(&format!("{path}.signature.port_secret"), port);
        match authentication {
            None => self.line(&format!("{path}.authentication"), "none"),
            Some(Authentication::Basic { username, .. }) => {
                let path = format!("{path}.authentication.basic");
                self.line(&format!("{path}.username"), username);
                self.line(&format!("{path}.password"), HIDDEN);
            }
            Some(Authentication::Bearer(_)) => {
                self.line(&format!("{path}.authentication.bearer.token"), HIDDEN);
            }
            Some(Authentication::OAuth2(issuer)) => {
                let path = format!("{path}.authentication.oauth2");
                // A key may be in its query.
                let host = issuer.endpoint.host().unwrap_or_default();
                self.line(&format!("{path}.token_endpoint_url"), format_args!("on {host}"));
                self.line(&format!("{path}.client_id"), &issuer.client_id);
                self.line(&format!("{path}.client_secret"), HIDDEN);
                self.list(&format!("{path}.scopes"), issuer.scopes.iter().cloned());
            }
        }
        for (name, statuses) in [
            ("retry_statuses", &reading.retry),
            ("reply_statuses", &reading.replies),
        ] {
            let statuses = statuses.iter().map(|statuses| match statuses {
                Statuses::One(status) => status.to_string(),
                Statuses::Class(class) => format!("{class}xx"),
            });
            self.list(&format!("{path}.{name}"), statuses);
        }
        self.line(
            &format!("{path}.max_retry_after"),
            format_duration(reading.max_retry_after),
        );
        self.line(&format!("{path}.response_status"), reading.status_body);
        self.line(&format!("{path}.max_response_bytes"), reading.max_bytes);
        self.reach(path, client);
        match proxy {
            None => self.line(&format!("{path}.proxy"), "none"),
            Some(proxy) => {
                let shown = if proxy.authorization.is_some() {
                    HIDDEN
                } else {
                    "none"
                };
                self.line(&format!("{path}.proxy.url"), &proxy.place);
                self.line(&format!("{path}.proxy.password"), shown);
            }
        }
    }

    fn reach(&mut self, path: &str, client: &Settings) {
        let Settings {
            connect_timeout,
            read_timeout,
            idle_timeout,
            max_connections,
            tls:
                Tls {
                    ca,
                    certificate,
                    key,
                    verify,
                },
        } = client;
        self.line(
            &format!("{path}.connect_timeout"),
            format_duration(*connect_timeout),
        );
        self.line(&format!("{path}.read_timeout"), format_duration(*read_timeout));
        self.line(&format!("{path}.idle_timeout"), format_duration(*idle_timeout));
        let most = max_connections.map_or_else(|| "concurrency".to_owned(), |most| most.to_string());
        self.line(&format!("{path}.max_concurrent_connections"), most);
        let whose = ca.as_ref().map_or("the system's", |_| "its own");
        self.line(&format!("{path}.tls.ca"), whose);
        let own = certificate.as_ref().map_or("none", |_| "its own");
        self.line(&format!("{path}.tls.certificate"), own);
        self.line(
            &format!("{path}.tls.key"),
            key.as_ref().map_or("none", |_| HIDDEN),
        );
        self.line(&format!("{path}.tls.verify"), verify);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{load, show};

    #[test]
    fn a_sink_is_shown_without_its_secrets() {
        const HIDDEN: &str = "s3cr3t-value";
        let text = format!(
            r#"
clusters: {{main: {{bootstrap_servers: "a:1"}}}}
subscriptions:
  hook:
    source: kafka://main/orders
    sink: "https://hooks.example.com/in?key={HIDDEN}"
    options:
      method: PUT
      headers: {{x-api-key: "{HIDDEN}", x-kind: "{{{{ .record.key + \"{HIDDEN}\" }}}}"}}
      body: {{token: "{HIDDEN}", id: "{{{{ .record.key }}}}"}}
      authentication: {{basic: {{username: me, password: "{HIDDEN}"}}}}
      signature: {{secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], port_secret: "{HIDDEN}"}}
      cloudevents: {{mode: structured, type: t}}
      retry_statuses: [401, 5xx]
      max_retry_after: 2m
      response_status: true
      max_response_bytes: 7168
      connect_timeout: 4s
      read_timeout: 5s
      idle_timeout: 6s
      max_concurrent_connections: 8
      tls: {{verify: false}}
      proxy: {{url: "http://proxy.example.com:3128", username: p, password: "{HIDDEN}"}}
"#
        );
        let loaded = load(&text, std::iter::empty()).unwrap();
        let shown = show(&loaded.config, &loaded.origins);
        assert!(
            !shown.contains(HIDDEN) && !shown.contains("whsec_MfKQ"),
            "{shown}"
        );
        for line in [
            "method: PUT (the file)",
            "headers: x-api-key: ***, x-kind: *** (the file)",
            "body: *** (the file)",
            "raw: false (default)",
            "batch_format: json (default)",
            "batch_items: value (default)",
            "cloudevents.mode: structured (the file)",
            "cloudevents.source: /topics/{topic} (default)",
            "cloudevents.type: t (the file)",
            "signature.secrets: *** (the file)",
            "signature.port_secret: *** (the file)",
            "authentication.basic.username: me (the file)",
            "authentication.basic.password: *** (the file)",
            "retry_statuses: 401, 5xx (the file)",
            "max_retry_after: 2m (the file)",
            "response_status: true (the file)",
            "max_response_bytes: 7168 (the file)",
            "connect_timeout: 4s (the file)",
            "read_timeout: 5s (the file)",
            "idle_timeout: 6s (the file)",
            "max_concurrent_connections: 8 (the file)",
            "tls.ca: the system's (default)",
            "tls.certificate: none (default)",
            "tls.key: none (default)",
            "tls.verify: false (the file)",
            "proxy.password: *** (the file)",
        ] {
            let line = format!("subscriptions.hook.options.{line}");
            assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
        }
        assert!(
            shown.contains("subscriptions.hook.options.proxy.url: http://proxy.example.com:3128"),
            "{shown}"
        );
    }
}
