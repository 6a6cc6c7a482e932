//! `sluice deployments` and `sluice services`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Call, Environment, Failure, IfMatch, List, Whom, part, run};

/// `sluice deployments`
#[derive(Debug, Args)]
pub(in super::super) struct Deployments {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfDeployments,
}

#[derive(Debug, Subcommand)]
enum OfDeployments {
    /// List all deployments, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Print a deployment and its services
    Show {
        /// Its id
        id: String,
    },
    /// Register the services at a URI: those that GET <uri>/discover tells, or those of a manifest
    #[command(visible_alias = "create")]
    Register {
        /// Where they are
        uri: String,
        /// A file with their manifest, instead of asking
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Also if other services were registered there
        #[arg(long)]
        force: bool,
        /// Also if subscriptions could not be delivered any more
        #[arg(long)]
        breaking: bool,
    },
    /// Delete a deployment
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
        /// Also if subscriptions could not be delivered any more
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        of: IfMatch,
    },
}

/// `sluice services`
#[derive(Debug, Args)]
pub(in super::super) struct Services {
    /// Print this one, and not a list
    name: Option<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Carries out `sluice deployments`.
pub(in super::super) fn deployments(arguments: Deployments, environment: Environment) -> Result<(), Failure> {
    use OfDeployments as Of;
    let one = |id: &str| format!("/deployments/{}", part(id));
    let mut list: Option<List> = None;
    let call = match arguments.command {
        Of::List => {
            list = Some(("deployments", &["/id", "/uri", "/services"]));
            Call::get("/deployments")
        }
        Of::Show { id } => Call::get(one(&id)),
        Of::Register {
            uri,
            manifest,
            force,
            breaking,
        } => {
            let mut body = json!({"uri": uri, "force": force, "breaking": breaking});
            if let (Some(file), Some(body)) = (manifest, body.as_object_mut()) {
                body.insert("manifest".to_owned(), read(&file)?);
            }
            Call::post("/deployments").with(body)
        }
        Of::Delete { id, force, of } => Call::delete(format!("{}?force={force}", one(&id)), &of),
    };
    run(&arguments.whom, &call, list, environment)
}

/// Carries out `sluice services`.
pub(in super::super) fn services(arguments: &Services, environment: Environment) -> Result<(), Failure> {
    let (call, list): (Call, Option<List>) = match &arguments.name {
        Some(name) => (Call::get(format!("/services/{}", part(name))), None),
        None => {
            let fields = &["/name", "/ty", "/deployment_id", "/handlers"];
            (Call::get("/services"), Some(("services", fields)))
        }
    };
    run(&arguments.whom, &call, list, environment)
}

fn read(file: &Path) -> Result<Value, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Other(format!("{name}: cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::Other(format!("{name}: is no JSON: {error}")))
}
