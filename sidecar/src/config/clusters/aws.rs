//! `aws_msk_iam:` of an `authentication`, and the options of the JAAS line that mean the same.

use std::collections::BTreeMap;

use sluice_settings::Section;

use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::config::{AwsIam, AwsKeys, AwsRole, Secret};

/// What was said, by the names of `aws_msk_iam`.
#[derive(Default)]
pub(super) struct Said {
    region: Option<String>,
    profile: Option<String>,
    role_arn: Option<String>,
    role_session_name: Option<String>,
    role_external_id: Option<Secret>,
    sts_region: Option<String>,
    sts_endpoint: Option<String>,
    access_key_id: Option<Secret>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
}

impl Said {
    /// `aws_msk_iam:`.
    pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> Self {
        Self {
            region: section.name("region"),
            profile: section.name("profile"),
            role_arn: section.name("role_arn"),
            role_session_name: section.name("role_session_name"),
            role_external_id: secret::field(section, "role_external_id", Inline::Fine, context),
            sts_region: section.name("sts_region"),
            sts_endpoint: section.name("sts_endpoint"),
            access_key_id: secret::field(section, "access_key_id", Inline::Fine, context),
            secret_access_key: secret::field(section, "secret_access_key", Inline::Warned, context),
            session_token: secret::field(section, "session_token", Inline::Warned, context),
        }
    }

    /// The options of `IAMLoginModule`, which are taken out of those that there are (names of aws-msk-iam-auth 2.3).
    pub(super) fn take(options: &mut BTreeMap<String, String>) -> Self {
        let mut take = |name: &str| options.remove(name);
        Self {
            region: None,
            profile: take("awsProfileName"),
            role_arn: take("awsRoleArn"),
            role_session_name: take("awsRoleSessionName"),
            role_external_id: take("awsRoleExternalId").map(Secret::new),
            sts_region: take("awsStsRegion"),
            sts_endpoint: None,
            access_key_id: take("awsRoleAccessKeyId").map(Secret::new),
            secret_access_key: take("awsRoleSecretAccessKey").map(Secret::new),
            session_token: take("awsRoleSessionToken").map(Secret::new),
        }
    }

    /// What is meant, for brokers of these names.
    ///
    /// # Errors
    /// What is missing or contradicts itself, and the field that it is about.
    pub(super) fn settle(self, brokers: &[String]) -> Result<AwsIam, (&'static str, String)> {
        let keys = match (self.access_key_id, self.secret_access_key) {
            (Some(id), Some(secret)) => Some(AwsKeys {
                id,
                secret,
                session_token: self.session_token,
            }),
            (None, None) if self.session_token.is_none() => None,
            (Some(_), None) => {
                return Err((
                    "secret_access_key",
                    "is missing: `access_key_id` needs it".to_owned(),
                ));
            }
            (None, _) => return Err(("access_key_id", "is missing: the key needs its id".to_owned())),
        };
        if keys.is_some() && self.profile.is_some() {
            return Err((
                "profile",
                "names keys, and `access_key_id` is one: keep one".to_owned(),
            ));
        }
        let of_role = [
            ("role_session_name", self.role_session_name.is_some()),
            ("role_external_id", self.role_external_id.is_some()),
            ("sts_region", self.sts_region.is_some()),
            ("sts_endpoint", self.sts_endpoint.is_some()),
        ];
        if self.role_arn.is_none()
            && let Some((field, _)) = of_role.into_iter().find(|(_, is_set)| *is_set)
        {
            return Err((field, "means nothing without `role_arn`".to_owned()));
        }
        for (field, region) in [("region", &self.region), ("sts_region", &self.sts_region)] {
            if region.as_ref().is_some_and(|region| !is_region(region)) {
                return Err((field, "is no region, as eu-west-1 is one".to_owned()));
            }
        }
        if let Some(url) = &self.sts_endpoint
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return Err((
                "sts_endpoint",
                "is no URL, as https://sts.eu-west-1.amazonaws.com is one".to_owned(),
            ));
        }
        let role = self.role_arn.map(|arn| AwsRole {
            arn,
            session_name: self.role_session_name,
            external_id: self.role_external_id,
            sts_region: self.sts_region,
            sts_endpoint: self.sts_endpoint,
        });
        let mut found = brokers.iter().filter_map(|broker| region_of(broker));
        let Some(region) = self.region.or_else(|| found.next().map(str::to_owned)) else {
            return Err((
                "region",
                "is required: the brokers' names do not say it, as b-1.….kafka.eu-west-1.amazonaws.com does"
                    .to_owned(),
            ));
        };
        Ok(AwsIam {
            region,
            profile: self.profile,
            keys,
            role,
        })
    }
}

fn is_region(name: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.contains('-') && name.split('-').all(part)
}

/// The region in a broker's name: `….kafka.<region>.amazonaws.com`, or `….kafka-serverless.<region>.…`.
fn region_of(broker: &str) -> Option<&str> {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    let mut labels = host.split('.');
    labels.find(|label| matches!(*label, "kafka" | "kafka-serverless"))?;
    let region = labels.next()?;
    (labels.next() == Some("amazonaws") && is_region(region)).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_in_brokers_names() {
        for (broker, expected) in [
            (
                "b-1.main.abc123.c2.kafka.eu-west-1.amazonaws.com:9098",
                Some("eu-west-1"),
            ),
            (
                "boot-x.c3.kafka-serverless.us-gov-east-1.amazonaws.com:9098",
                Some("us-gov-east-1"),
            ),
            (
                "b-1.main.abc.c2.kafka.cn-north-1.amazonaws.com.cn:9098",
                Some("cn-north-1"),
            ),
            ("kafka.example.com:9098", None),
            ("b-1.kafka.Region.amazonaws.com:9098", None),
            ("127.0.0.1:9098", None),
        ] {
            assert_eq!(region_of(broker), expected, "{broker}");
        }
    }
}
