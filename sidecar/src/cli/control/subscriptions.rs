//! `sluice subscriptions`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Call, Environment, Failure, IfMatch, List, Whom, options, pair, part, run};

/// `sluice subscriptions`
#[derive(Debug, Args)]
pub(in super::super) struct Subscriptions {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfSubscriptions,
}

#[derive(Debug, Subcommand)]
enum OfSubscriptions {
    /// List all subscriptions, a line each
    #[command(visible_alias = "ls")]
    List {
        /// Those of this source only, as it is written
        #[arg(long)]
        source: Option<String>,
        /// Those with this sink only, as it is written
        #[arg(long)]
        sink: Option<String>,
    },
    /// Print a subscription, and how it is in this sidecar
    Show {
        /// Its id
        id: String,
    },
    /// Make a subscription
    Create {
        /// kafka://<cluster>/<topic>
        source: String,
        /// http(s)://… or service://<service>/<handler>
        sink: String,
        /// An option: a property of librdkafka's, or one of Sluice's, whose value may be JSON
        #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = pair)]
        options: Vec<(String, Value)>,
    },
    /// Change a subscription, which goes on where it was
    Update {
        /// Its id
        id: String,
        /// Another source
        #[arg(long)]
        source: Option<String>,
        /// Another sink
        #[arg(long)]
        sink: Option<String>,
        /// An option, as in create; NAME=null takes it away
        #[arg(short, long = "option", value_name = "NAME=VALUE", value_parser = pair)]
        options: Vec<(String, Value)>,
        #[command(flatten)]
        of: IfMatch,
    },
    /// Delete a subscription: what is under way is finished, and what is held of it is removed
    #[command(visible_alias = "rm")]
    Delete {
        /// Its id
        id: String,
        /// What is held of it stays
        #[arg(long)]
        keep_held: bool,
        #[command(flatten)]
        of: IfMatch,
    },
    /// Deliver nothing more, in every sidecar
    Pause {
        /// Its id
        id: String,
    },
    /// Deliver again
    Resume {
        /// Its id
        id: String,
    },
    /// Go on elsewhere: earliest, latest, offset:<n> or timestamp:<ms>
    Seek {
        /// Its id
        id: String,
        /// Where to
        #[arg(value_parser = to)]
        to: Value,
        /// Of this topic only
        #[arg(long)]
        topic: Option<String>,
        /// This partition only
        #[arg(long)]
        partition: Option<i32>,
    },
    /// Deliver a range of offsets again
    Replay {
        /// Its id
        id: String,
        /// The topic
        topic: String,
        /// The partition
        partition: i32,
        /// The first offset
        from: i64,
        /// The offset after the last
        to: i64,
    },
    /// Hand one record over, once, and print what came of it: the newest, or topic, partition and offset
    Test {
        /// Its id
        id: String,
        /// The topic
        #[arg(requires = "partition")]
        topic: Option<String>,
        /// The partition
        #[arg(requires = "offset")]
        partition: Option<i32>,
        /// The offset
        offset: Option<i64>,
    },
    /// List the events that are parked
    Parked {
        /// Its id
        id: String,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Try parked events again
    Retry(Picked),
    /// Forget parked events
    Drop(Picked),
    /// What is held, of subscriptions that are there no more too
    #[command(subcommand)]
    Held(OfHeld),
}

#[derive(Debug, Subcommand)]
enum OfHeld {
    /// List how many events are held of each subscription on each cluster, and whether it is known, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Remove what is held of a subscription that is there no more
    #[command(visible_alias = "rm")]
    Delete {
        /// The subscription's id
        subscription: String,
    },
}

#[derive(Debug, Args)]
struct Picked {
    /// The subscription's id
    id: String,
    /// The events' ids
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    events: Vec<String>,
    /// Every one that there is
    #[arg(long)]
    all: bool,
}

impl Picked {
    fn call(self, what: &str) -> Call {
        let path = format!("/subscriptions/{}/parked/{what}", part(&self.id));
        Call::post(path).with(if self.all {
            json!({})
        } else {
            json!({"ids": self.events})
        })
    }
}

fn to(text: &str) -> Result<Value, String> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text:?} is no number"));
    match text.split_once(':') {
        None if text == "earliest" || text == "latest" => Ok(text.into()),
        Some(("offset", n)) => Ok(json!({"offset": number(n)?})),
        Some(("timestamp", ms)) => Ok(json!({"timestamp": number(ms)?})),
        _ => Err("must be earliest, latest, offset:<n> or timestamp:<milliseconds since 1970>".to_owned()),
    }
}

/// Carries out `sluice subscriptions`.
pub(in super::super) fn subscriptions(
    arguments: Subscriptions,
    environment: Environment,
) -> Result<(), Failure> {
    use OfSubscriptions as Of;
    let one = |id: &str| format!("/subscriptions/{}", part(id));
    let post = |id: &str, what: &str| Call::post(format!("{}/{what}", one(id)));
    let mut list: Option<List> = None;
    let call = match arguments.command {
        Of::List { source, sink } => {
            list = Some(("subscriptions", &["/id", "/state", "/source", "/sink"]));
            let wanted = [("source", source), ("sink", sink)];
            let wanted = wanted.into_iter().filter_map(|(name, text)| Some((name, text?)));
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(wanted)
                .finish();
            let separator = if query.is_empty() { "" } else { "?" };
            Call::get(format!("/subscriptions{separator}{query}"))
        }
        Of::Show { id } => Call::get(one(&id)),
        Of::Create {
            source,
            sink,
            options: pairs,
        } => {
            let body = json!({"source": source, "sink": sink, "options": options(pairs)});
            Call::post("/subscriptions").with(body)
        }
        Of::Update {
            id,
            source,
            sink,
            options: pairs,
            of,
        } => {
            let mut body = Map::new();
            body.extend(source.map(|source| ("source".to_owned(), source.into())));
            body.extend(sink.map(|sink| ("sink".to_owned(), sink.into())));
            if !pairs.is_empty() {
                body.insert("options".to_owned(), options(pairs));
            }
            Call::patch(one(&id), &of).with(body.into())
        }
        Of::Delete { id, keep_held, of } => {
            let held = if keep_held { "?held=keep" } else { "" };
            Call::delete(format!("{}{held}", one(&id)), &of)
        }
        Of::Pause { id } => post(&id, "pause"),
        Of::Resume { id } => post(&id, "resume"),
        Of::Seek {
            id,
            to,
            topic,
            partition,
        } => post(&id, "seek").with(json!({"to": to, "topic": topic, "partition": partition})),
        Of::Replay {
            id,
            topic,
            partition,
            from,
            to,
        } => {
            let range = json!({"topic": topic, "partition": partition, "from": from, "to": to});
            post(&id, "replay").with(range)
        }
        Of::Test {
            id,
            topic,
            partition,
            offset,
        } => post(&id, "test").with(json!({"topic": topic, "partition": partition, "offset": offset})),
        Of::Parked { id, limit } => Call::get(format!("{}/parked?limit={limit}", one(&id))),
        Of::Retry(picked) => picked.call("retry"),
        Of::Drop(picked) => picked.call("drop"),
        Of::Held(OfHeld::List) => {
            list = Some(("held", &["/cluster", "/subscription", "/events", "/known"]));
            Call::get("/held")
        }
        Of::Held(OfHeld::Delete { subscription }) => Call::delete(
            format!("/held/{}", part(&subscription)),
            &IfMatch { if_match: None },
        ),
    };
    run(&arguments.whom, &call, list, environment)
}
