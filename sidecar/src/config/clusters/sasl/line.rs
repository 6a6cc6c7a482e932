//! `sasl_jaas_config`: a line of JAAS instead of the other fields.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{aws, gssapi, jaas, oidc};
use super::{Mechanism, Reader, Sasl, bearing, delegation, iam, name, scram_hash};
use crate::config::{BearerToken, Secret, TokenSource};
use crate::kafka::bearer;

impl Reader<'_, '_> {
    /// `sasl_jaas_config`, Gravitee's and every Java client's.
    pub(super) fn jaas(&mut self, mechanism: Option<Mechanism>, line: &Secret) -> Option<Sasl> {
        const KEY: &str = "sasl_jaas_config";
        let own = self.own;
        let problem = |why: &str| own.problem(KEY, why);
        let jaas::Line { module, mut options } =
            jaas::parse(line.expose()).map_err(|why| problem(&why)).ok()?;
        let (fits, meant): (&[Mechanism], _) = match module.as_str() {
            "PlainLoginModule" => (&[Mechanism::Plain], Some(Mechanism::Plain)),
            "ScramLoginModule" => (&[Mechanism::Scram256, Mechanism::Scram512], None),
            "OAuthBearerLoginModule" => (&[Mechanism::OauthBearer], Some(Mechanism::OauthBearer)),
            "IAMLoginModule" => (&[Mechanism::AwsMskIam], Some(Mechanism::AwsMskIam)),
            "Krb5LoginModule" => (&[Mechanism::Gssapi], Some(Mechanism::Gssapi)),
            _ => {
                problem(
                    "has a login module that is not known; known are PlainLoginModule, ScramLoginModule, \
                     OAuthBearerLoginModule, IAMLoginModule and Krb5LoginModule",
                );
                return None;
            }
        };
        let Some(mechanism) = mechanism.or(meant) else {
            own.problem(
                "mechanism",
                "is required by ScramLoginModule: SCRAM-SHA-256 or SCRAM-SHA-512",
            );
            return None;
        };
        if !fits.contains(&mechanism) {
            own.problem("mechanism", format!("is not what the {module} of {KEY} is for"));
            return None;
        }
        if mechanism == Mechanism::Gssapi {
            let said = gssapi::Said::take(&mut options);
            self.no_more(&options);
            let settled = said.and_then(gssapi::Said::settle);
            let settled = settled.map_err(|(field, why)| problem(&format!("has a `{field}` that {why}")));
            return self.kerberos(KEY, settled.ok()?);
        }
        if mechanism == Mechanism::AwsMskIam {
            let said = aws::Said::take(&mut options);
            self.no_more(&options);
            let settled = said.settle(self.brokers);
            let settled = settled.map_err(|(field, why)| {
                problem(&format!(
                    "lacks or contradicts what is `aws_msk_iam.{field}` without it: {why}"
                ));
            });
            self.set(KEY, "sasl.mechanism", "OAUTHBEARER");
            return Some(bearing(iam(settled.ok()?)));
        }
        let mut take = |name: &str| options.remove(name);
        if mechanism != Mechanism::OauthBearer {
            let tokenauth = take("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let hash = scram_hash(mechanism).filter(|_| tokenauth);
            if tokenauth && hash.is_none() {
                problem("has `tokenauth`, which is ScramLoginModule's");
                return None;
            }
            let (user, password) = (take("username"), take("password"));
            self.no_more(&options);
            let (Some(user), Some(password)) = (user, password) else {
                problem("needs the options `username` and `password`");
                return None;
            };
            let (user, password) = (Secret::new(user), Secret::new(password));
            if let Some(hash) = hash {
                return Some(delegation(hash, user, password));
            }
            self.login(mechanism, (KEY, user), (KEY, password));
            return None;
        }
        self.set(KEY, "sasl.mechanism", name(mechanism));
        let principal = take("unsecuredLoginStringClaim_sub");
        let lifetime = take("unsecuredLoginLifetimeSeconds");
        if options.contains_key("clientId") || options.contains_key("clientSecret") {
            if principal.is_some() || lifetime.is_some() {
                problem("has options of an issuer and of unsigned tokens: keep one");
            }
            self.properties.is_read(oidc::ENDPOINT);
            let found = oidc::jaas(self.cluster, &mut options, self.context);
            let (source, extensions) = found.map_err(|why| problem(&why)).ok()?;
            self.no_more(&options);
            if let Some((name, _)) = extensions
                .iter()
                .find(|(name, value)| !bearer::is_extension(name, value))
            {
                problem(&format!(
                    "has an extension {name:?} that must have a name of letters, other than `auth`, and a printable value"
                ));
            }
            return Some(bearing(BearerToken { source, extensions }));
        }
        self.no_more(&options);
        let Some(principal) = principal else {
            problem(
                "needs the options `clientId` and `clientSecret`, or `unsecuredLoginStringClaim_sub`; a token of your own goes to `oauthbearer`, \
                 without `sasl_jaas_config`",
            );
            return None;
        };
        // Kafka's own default.
        let lifetime = lifetime.map_or(Some(3600), |text| {
            text.parse().ok().filter(|n| (1..=31_536_000).contains(n))
        });
        let Some(lifetime) = lifetime else {
            problem("has an `unsecuredLoginLifetimeSeconds` that is not from 1 to 31536000");
            return None;
        };
        self.context.warnings.report(
            own.path_of(KEY),
            "makes tokens that nobody signs: whoever reaches the brokers can say to be anybody",
        );
        Some(bearing(BearerToken {
            source: TokenSource::Unsecured {
                principal,
                lifetime: Duration::from_secs(lifetime),
            },
            extensions: BTreeMap::new(),
        }))
    }

    fn no_more(&self, options: &BTreeMap<String, String>) {
        for name in options.keys() {
            let shown = name
                .chars()
                .all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '.'));
            let shown = if shown { name } else { "(not shown)" };
            self.own.problem(
                "sasl_jaas_config",
                format!("has an option that is not known: {shown}"),
            );
        }
    }
}
