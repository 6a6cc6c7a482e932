//! `gssapi:` of an `authentication`, and the options of the JAAS line that mean the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sluice_settings::Section;

use crate::config::read::Context;
use crate::config::{Cluster, Kerberos};
use crate::kerberos;

pub(super) const NOT_BUILT: &str =
    "GSSAPI (Kerberos) is not in this build: the release image has it, and `make build-gssapi` makes one";

/// What was said.
pub(super) struct Said {
    service_name: Option<String>,
    principal: Option<String>,
    keytab: Option<PathBuf>,
}

/// What is meant.
pub(super) struct Settled {
    pub(super) service_name: String,
    pub(super) kerberos: Kerberos,
}

/// A field, and what is wrong with it.
type Wrong = (&'static str, String);

impl Said {
    /// `gssapi:`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            service_name: section.name("service_name"),
            principal: section.name("principal"),
            keytab: section.name("keytab").map(PathBuf::from),
        }
    }

    /// The options of `Krb5LoginModule`, which are taken out of those that there are.
    ///
    /// # Errors
    /// One asks for something else than a keytab.
    pub(super) fn take(options: &mut BTreeMap<String, String>) -> Result<Self, Wrong> {
        // How it is here anyway.
        const FIXED: [(&str, &str); 5] = [
            ("useKeyTab", "true"),
            ("useTicketCache", "false"),
            ("storeKey", "true"),
            ("doNotPrompt", "true"),
            ("isInitiator", "true"),
        ];
        for (name, only) in FIXED {
            let said = options.remove(name);
            let required = name == "useKeyTab";
            if said
                .as_deref()
                .map_or(required, |said| !said.eq_ignore_ascii_case(only))
            {
                return Err((name, format!("must be {only}: a keytab is what is read here")));
            }
        }
        Ok(Self {
            service_name: options.remove("serviceName"),
            principal: options.remove("principal"),
            keytab: options.remove("keyTab").map(PathBuf::from),
        })
    }

    /// What is meant; looks into the keytab.
    ///
    /// # Errors
    /// What is missing, or does not fit the keytab.
    pub(super) fn settle(self) -> Result<Settled, Wrong> {
        let required = || "is required".to_owned();
        let principal = self.principal.ok_or_else(|| ("principal", required()))?;
        let keytab = self.keytab.ok_or_else(|| ("keytab", required()))?;
        if principal
            .split_once('@')
            .is_none_or(|(_, realm)| realm.is_empty())
        {
            return Err((
                "principal",
                "must have its realm, as me@EXAMPLE.COM has".to_owned(),
            ));
        }
        let found = kerberos::principals(&keytab).map_err(|why| ("keytab", why))?;
        match found.first() {
            Some(first) if *first == principal => {}
            Some(first) => {
                return Err((
                    "principal",
                    format!("is not the first of the keytab, which has {first}"),
                ));
            }
            None => return Err(("keytab", format!("has no keys: {}", keytab.display()))),
        }
        Ok(Settled {
            service_name: self.service_name.unwrap_or_else(|| "kafka".to_owned()),
            kerberos: Kerberos { principal, keytab },
        })
    }
}

/// Reports clusters that are reached as another principal than the first: the Kerberos library has one for a process.
pub(super) fn one_for_all(clusters: &BTreeMap<String, Cluster>, context: &Context<'_>) {
    let mut all = clusters
        .iter()
        .filter_map(|(name, cluster)| Some((name, cluster.kerberos.as_ref()?)));
    let Some((first, one)) = all.next() else {
        return;
    };
    for (name, _) in all.filter(|(_, other)| *other != one) {
        context.problems.report(
            format!("clusters.{name}.authentication"),
            format!("must have the principal and the keytab of clusters.{first}: there is one for a process"),
        );
    }
}
