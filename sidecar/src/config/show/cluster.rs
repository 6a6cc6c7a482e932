//! A cluster's lines, and a profile's.

use std::collections::BTreeMap;

use super::super::{
    AwsIam, AwsKeys, AwsRole, BearerToken, Callers, Cluster, DelegationToken, Kerberos, Profile, ScramHash,
    Secret, TokenSource,
};
use super::Page;
use crate::kafka::properties::may_be_secret;

impl Page<'_> {
    pub(super) fn cluster(&mut self, path: &str, cluster: &Cluster) {
        let Cluster {
            bootstrap_servers,
            properties,
            token,
            delegation,
            kerberos,
            callers,
            produces,
            consumes,
            groups,
            allowed_topics,
            expiry,
            materials: _,
        } = cluster;
        let brokers = format!("{path}.brokers");
        let servers = format!("{path}.bootstrap_servers");
        let key = if self.origins.set.contains(&brokers) {
            brokers
        } else {
            servers
        };
        self.list(&key, bootstrap_servers.iter().cloned());
        self.line(&format!("{path}.producer.enabled"), produces);
        self.line(&format!("{path}.consumer.enabled"), consumes);
        if let Some(groups) = groups {
            self.list(&format!("{path}.consumer.groups"), groups.0.iter().cloned());
        }
        self.list(
            &format!("{path}.allowed_topics"),
            allowed_topics.0.iter().cloned(),
        );
        self.properties(path, properties);
        if let Some(Kerberos { principal, keytab }) = kerberos {
            let key = format!("{path}.authentication.gssapi");
            self.line(&format!("{key}.principal"), principal);
            self.line(&format!("{key}.keytab"), keytab.display());
        }
        if let Some(DelegationToken { hash, id: _, hmac: _ }) = delegation {
            let key = format!("{path}.authentication");
            let mechanism = match hash {
                ScramHash::Sha256 => "SCRAM-SHA-256",
                ScramHash::Sha512 => "SCRAM-SHA-512",
            };
            self.line(&format!("{key}.mechanism"), mechanism);
            self.line(&format!("{key}.tokenauth"), true);
            self.line(&format!("{key}.user"), "***");
            self.line(&format!("{key}.password"), "***");
        }
        for (store, ends) in [("keystore", expiry.keystore), ("truststore", expiry.truststore)] {
            if let Some(ends) = ends {
                let ends = humantime::format_rfc3339_seconds(ends);
                self.line(
                    &format!("{path}.security.{store}"),
                    format_args!("good until {ends}"),
                );
            }
        }
        if let Some(Callers { max }) = callers {
            self.line(&format!("{path}.authentication.credentials"), "from_request");
            self.line(&format!("{path}.authentication.max_callers"), max);
        }
        if let Some(BearerToken { source, extensions }) = token {
            let key = format!("{path}.authentication.oauthbearer");
            match source {
                TokenSource::Fixed(_) => self.line(&format!("{key}.token"), "***"),
                TokenSource::File(file) => self.line(&format!("{key}.token_file"), file.display()),
                TokenSource::Oidc(issuer) => {
                    self.line(&format!("{key}.token_endpoint_url"), issuer.endpoint());
                }
                TokenSource::AwsMskIam(iam) => self.aws(&format!("{path}.authentication"), iam),
                TokenSource::Unsecured { lifetime, .. } => {
                    let lifetime = humantime::format_duration(*lifetime);
                    let line = format_args!("unsigned tokens, each for {lifetime}");
                    self.line(&format!("{path}.authentication.sasl_jaas_config"), line);
                }
            }
            for name in extensions.keys() {
                self.line(&format!("{key}.extensions.{name}"), "***");
            }
        }
    }

    fn aws(&mut self, path: &str, iam: &AwsIam) {
        let AwsIam {
            region,
            profile,
            keys,
            role,
        } = iam;
        let key = |name: &str| format!("{path}.aws_msk_iam.{name}");
        self.line(&format!("{path}.mechanism"), "AWS_MSK_IAM");
        self.line(&key("region"), region);
        if let Some(profile) = profile {
            self.line(&key("profile"), profile);
        }
        if let Some(AwsKeys {
            id: _,
            secret: _,
            session_token,
        }) = keys
        {
            self.line(&key("access_key_id"), "***");
            self.line(&key("secret_access_key"), "***");
            if session_token.is_some() {
                self.line(&key("session_token"), "***");
            }
        }
        if let Some(AwsRole {
            arn,
            session_name,
            external_id,
            sts_region,
            sts_endpoint,
        }) = role
        {
            self.line(&key("role_arn"), arn);
            for (name, value) in [
                ("role_session_name", session_name),
                ("sts_region", sts_region),
                ("sts_endpoint", sts_endpoint),
            ] {
                if let Some(value) = value {
                    self.line(&key(name), value);
                }
            }
            if external_id.is_some() {
                self.line(&key("role_external_id"), "***");
            }
        }
    }

    pub(super) fn profile(&mut self, path: &str, profile: &Profile) {
        let Profile {
            acks: _,
            idempotent: _,
            properties,
            max_records,
            max_bytes,
            allow_auto_create_topics,
            max_queueing_time,
        } = profile;
        // `acks` and idempotence are properties as well.
        self.properties(path, properties);
        self.line(
            &format!("{path}.producer_async_buffering_limits_messages_in_memory"),
            max_records,
        );
        self.line(
            &format!("{path}.producer_async_buffering_limits_bytes_in_memory"),
            max_bytes,
        );
        self.line(
            &format!("{path}.allow_auto_create_topics"),
            allow_auto_create_topics,
        );
        self.line(
            &format!("{path}.max_queueing_time"),
            humantime::format_duration(*max_queueing_time),
        );
    }

    fn properties(&mut self, path: &str, properties: &BTreeMap<String, Secret>) {
        for (name, value) in properties {
            let value = if may_be_secret(name) {
                "***"
            } else {
                value.expose()
            };
            self.line(&format!("{path}.properties.{name}"), value);
        }
    }
}
