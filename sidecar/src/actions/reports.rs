//! What people and programs say about runs: how they are, lines of their logs, approval.

use serde_json::{Map, Value};

use super::access::Caller;
use super::item::{Approval, Item, LogLine, Run, Status};
use super::store::{Held, key};
use super::{Actions, port};
use crate::epoch::now_ms;
use crate::json_api::{Error, nothing_else};

/// The longest line of a log, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// The most lines that a run's log has.
const MAX_LINES: usize = 10_000;
/// How often a line is written again where somebody else wrote one at the same time.
const TRIES: usize = 20;
/// The longest text of a field, in bytes.
const MAX_TEXT: usize = 64 * 1024;

impl Actions {
    /// Has a run be as whoever does it says.
    pub(super) async fn report(
        &self,
        caller: &Caller,
        id: &str,
        held: Held<Run>,
        body: Value,
    ) -> Result<Held<Run>, Error> {
        let mut fields = crate::json_api::object(body)?;
        let status = match fields.remove("status") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(match text.as_str() {
                "SUCCESS" => Status::Success,
                "FAILURE" => Status::Failure,
                "IN_PROGRESS" => Status::InProgress,
                other => {
                    return Err(Error::field(
                        "status",
                        format!("{other:?} is none of SUCCESS, FAILURE, IN_PROGRESS"),
                    ));
                }
            }),
            Some(_) => return Err(Error::field("status", "must be text")),
        };
        let label = text(&mut fields, "statusLabel")?;
        let summary = text(&mut fields, "summary")?;
        let external = text(&mut fields, "externalRunId")?;
        let link = link(&mut fields)?;
        nothing_else(
            &fields,
            &["status", "statusLabel", "link", "summary", "externalRunId"],
        )?;
        let trigger = port::trigger(&caller.org, Some(&caller.user), "API", now_ms());
        self.change_run(&caller.org, id, &trigger, held, |run, _| {
            if let Some(status) = status {
                go(run, status)?;
            }
            let told = &mut run.told;
            told.status_label = label.or(told.status_label.take());
            told.summary = summary.or(told.summary.take());
            told.external_run_id = external.or(told.external_run_id.take());
            told.link = link.or(told.link.take());
            Ok(true)
        })
        .await
    }

    /// Adds a line to a run's log, and ends the run where that is said.
    pub(super) async fn log(
        &self,
        caller: &Caller,
        id: &str,
        held: Held<Run>,
        body: Value,
    ) -> Result<usize, Error> {
        let mut fields = crate::json_api::object(body)?;
        let Some(Value::String(message)) = fields.remove("message") else {
            return Err(Error::field("message", "is required, and is text"));
        };
        if message.len() > MAX_LINE {
            return Err(Error::TooLarge(format!(
                "message has {} bytes, and may have {MAX_LINE}",
                message.len()
            )));
        }
        let status = match text(&mut fields, "terminationStatus")?.as_deref() {
            None => None,
            Some("SUCCESS") => Some(Status::Success),
            Some("FAILURE") => Some(Status::Failure),
            Some(other) => {
                return Err(Error::field(
                    "terminationStatus",
                    format!("{other:?} is none of SUCCESS, FAILURE"),
                ));
            }
        };
        let label = text(&mut fields, "statusLabel")?;
        nothing_else(&fields, &["message", "terminationStatus", "statusLabel"])?;
        if status.is_some() && held.value.status != Status::InProgress {
            return Err(ended(&held.value));
        }
        let line = Item::Log(LogLine {
            message,
            at_ms: now_ms(),
            by: caller.user.id.clone(),
        });
        let org = &caller.org;
        let mut number = self.store.next_line(&org.id, id);
        for tried in 1.. {
            if number >= MAX_LINES {
                return Err(Error::Conflict(format!(
                    "the log of run {id} has {MAX_LINES} lines, and takes no more"
                )));
            }
            match self.store.put(&key::line(&org.id, id, number), 0, &line).await {
                Ok(_) => break,
                Err(Error::Conflict(_)) if tried < TRIES => {
                    number = self.store.next_line(&org.id, id).max(number + 1);
                }
                Err(error) => return Err(error),
            }
        }
        if status.is_some() || label.is_some() {
            let trigger = port::trigger(org, Some(&caller.user), "API", now_ms());
            self.change_run(org, id, &trigger, held, |run, _| {
                if let Some(status) = status {
                    go(run, status)?;
                }
                run.told.status_label = label.or(run.told.status_label.take());
                Ok(true)
            })
            .await?;
        }
        Ok(number)
    }

    /// Approves of a run, or declines it.
    pub(super) async fn approve(
        &self,
        caller: &Caller,
        id: &str,
        held: Held<Run>,
        body: Value,
    ) -> Result<Held<Run>, Error> {
        let mut fields = crate::json_api::object(body)?;
        let approved = match text(&mut fields, "status")?.as_deref() {
            Some("APPROVE") => true,
            Some("DECLINE") => false,
            _ => return Err(Error::field("status", "must be APPROVE or DECLINE")),
        };
        let description = text(&mut fields, "description")?;
        nothing_else(&fields, &["status", "description"])?;
        if held.value.status != Status::WaitingForApproval {
            return Err(Error::Conflict(format!("run {id} does not wait for approval")));
        }
        if held.value.user == caller.user.id {
            return Err(Error::NotAllowed(format!(
                "{} started run {id}: somebody else has to approve of it",
                caller.user.id
            )));
        }
        let trigger = port::trigger(&caller.org, Some(&caller.user), "API", now_ms());
        self.change_run(&caller.org, id, &trigger, held, |run, at_ms| {
            run.approval = Some(Approval {
                by: caller.user.id.clone(),
                approved,
                description,
                at_ms,
            });
            if approved {
                run.status = Status::InProgress;
                run.unwritten = true;
                run.deadline_ms = Some(at_ms.saturating_add(run.timeout_ms));
            } else {
                run.status = Status::Declined;
            }
            Ok(true)
        })
        .await
    }

    /// Notes what a run's webhook answered.
    pub(super) async fn respond(
        &self,
        caller: &Caller,
        id: &str,
        held: Held<Run>,
        body: Value,
    ) -> Result<Held<Run>, Error> {
        let mut fields = crate::json_api::object(body)?;
        let response = fields.remove("response");
        let Some(response) = response else {
            return Err(Error::field("response", "is required"));
        };
        nothing_else(&fields, &["response"])?;
        let trigger = port::trigger(&caller.org, Some(&caller.user), "API", now_ms());
        self.change_run(&caller.org, id, &trigger, held, |run, _| {
            run.told.response = Some(response);
            Ok(true)
        })
        .await
    }
}

/// Has a run be that.
fn go(run: &mut Run, to: Status) -> Result<(), Error> {
    if run.status != Status::InProgress {
        return Err(ended(run));
    }
    run.status = to;
    Ok(())
}

fn ended(run: &Run) -> Error {
    Error::Conflict(match run.status {
        Status::WaitingForApproval => "the run waits for approval, and has not started".to_owned(),
        Status::Success => "the run has ended: SUCCESS".to_owned(),
        Status::Failure => "the run has ended: FAILURE".to_owned(),
        Status::Declined => "the run was declined".to_owned(),
        Status::InProgress => "the run is in progress".to_owned(),
    })
}

/// A field that is text, or is not there.
pub(super) fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Error> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text)),
        Some(Value::String(text)) => Err(Error::TooLarge(format!(
            "{name} has {} bytes, and may have {MAX_TEXT}",
            text.len()
        ))),
        Some(_) => Err(Error::field(name, "must be text")),
    }
}

fn link(fields: &mut Map<String, Value>) -> Result<Option<Value>, Error> {
    let link = match fields.remove("link") {
        None | Some(Value::Null) => return Ok(None),
        Some(link) => link,
    };
    let fits = match &link {
        Value::String(_) => true,
        Value::Array(all) => all.iter().all(Value::is_string),
        _ => false,
    };
    if !fits {
        return Err(Error::field("link", "must be text, or a list of texts"));
    }
    Ok(Some(link))
}
