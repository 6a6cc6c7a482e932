//! The lines of organisations.

use crate::actions::org::{Access, Client, Credentials, Grant, Grants, Org, Settings, Topics, User, Who};
use crate::config::{Secret, TopicAllowlist};

use super::Page;

impl Page<'_> {
    pub(super) fn orgs(&mut self, settings: Option<&Settings>) {
        let Some(Settings {
            cluster,
            log,
            orgs,
            // `templates` has them.
            timeout: _,
            max_output_bytes: _,
        }) = settings
        else {
            self.line("orgs", "none");
            return;
        };
        self.kept("actions", cluster, log);
        for (id, org) in orgs {
            self.org(&format!("orgs.{id}"), org);
        }
    }

    fn org(&mut self, path: &str, org: &Org) {
        let Org {
            id: _,
            cluster,
            runs_topic,
            change_log_topic,
            topics: Topics {
                partitions,
                replication_factor,
            },
            secret,
            secrets,
            access,
            clients,
            token_lifetime,
            credentials,
            run_timeout,
            retention,
            actions,
        } = org;
        self.line(&format!("{path}.cluster"), cluster);
        self.line(&format!("{path}.runs_topic"), runs_topic);
        self.line(&format!("{path}.change_log_topic"), change_log_topic);
        self.line(&format!("{path}.partitions"), partitions);
        match replication_factor {
            Some(count) => self.line(&format!("{path}.replication_factor"), count),
            None => self.line(&format!("{path}.replication_factor"), "the brokers' own"),
        }
        self.line(&format!("{path}.secret"), hidden(secret.as_ref()));
        for name in secrets.keys() {
            self.line(&format!("{path}.secrets.{name}"), "***");
        }
        for (i, entry) in access.iter().enumerate() {
            self.access(&format!("{path}.access[{i}]"), entry);
        }
        for (name, client) in clients {
            let Client {
                secret: _,
                may,
                actions,
            } = client;
            self.line(&format!("{path}.clients.{name}.secret"), "***");
            self.grants(&format!("{path}.clients.{name}"), *may, actions);
        }
        self.line(
            &format!("{path}.token_lifetime"),
            humantime::format_duration(*token_lifetime),
        );
        match credentials {
            None => self.line(&format!("{path}.kafka_credentials"), "none"),
            Some(Credentials {
                brokers,
                username,
                password: _,
            }) => {
                self.list(
                    &format!("{path}.kafka_credentials.brokers"),
                    brokers.iter().cloned(),
                );
                self.line(&format!("{path}.kafka_credentials.username"), username);
                self.line(&format!("{path}.kafka_credentials.password"), "***");
            }
        }
        self.line(
            &format!("{path}.run_timeout"),
            humantime::format_duration(*run_timeout),
        );
        self.line(
            &format!("{path}.retention"),
            humantime::format_duration(*retention),
        );
        self.list(&format!("{path}.actions"), actions.keys().cloned());
    }

    fn access(&mut self, path: &str, access: &Access) {
        let Access { who, may, actions } = access;
        match who {
            Who::Tokens(tokens, user) => {
                let User {
                    id,
                    email,
                    first_name,
                    last_name,
                } = user;
                self.list(&format!("{path}.tokens"), tokens.iter().map(|_| "***".to_owned()));
                self.line(&format!("{path}.name"), id);
                for (field, value) in [
                    ("email", email),
                    ("first_name", first_name),
                    ("last_name", last_name),
                ] {
                    self.line(&format!("{path}.{field}"), value.as_deref().unwrap_or("none"));
                }
            }
            Who::Bearers(bearers) => self.bearers(path, Some(bearers)),
        }
        self.grants(path, *may, actions);
    }

    fn grants(&mut self, path: &str, may: Grants, actions: &TopicAllowlist) {
        let names = Grant::ALL.iter().filter(|(_, grant)| may.has(*grant));
        self.list(&format!("{path}.may"), names.map(|(name, _)| (*name).to_owned()));
        self.list(&format!("{path}.actions"), actions.0.iter().cloned());
    }
}

fn hidden(secret: Option<&Secret>) -> &'static str {
    if secret.is_some() { "***" } else { "none" }
}
