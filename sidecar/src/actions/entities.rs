//! What is done with entities.

use serde_json::{Map, Value};

use super::access::Caller;
use super::item::{Entity, Item};
use super::org::Grant;
use super::reports::text;
use super::runs::change;
use super::store::{Held, key};
use super::{Actions, port, rules};
use crate::epoch::now_ms;
use crate::json_api::{Error, nothing_else};

/// What a request says about an entity.
#[derive(Default)]
pub(super) struct Written {
    title: Option<String>,
    icon: Option<String>,
    team: Option<Vec<String>>,
    properties: Option<Map<String, Value>>,
    relations: Option<Map<String, Value>>,
}

impl Written {
    /// Reads a body, and its `identifier`.
    pub(super) fn read(body: Value) -> Result<(Option<String>, Self), Error> {
        let mut fields = crate::json_api::object(body)?;
        let identifier = text(&mut fields, "identifier")?;
        if let Some(identifier) = &identifier {
            rules::identifier(identifier).map_err(|why| Error::field("identifier", why))?;
        }
        let mut map = |name: &str| match fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(Error::field(name, "must be an object")),
        };
        let (properties, relations) = (map("properties")?, map("relations")?);
        let team = match fields.remove("team") {
            None | Some(Value::Null) => None,
            Some(Value::String(team)) => Some(vec![team]),
            Some(teams) => Some(
                serde_json::from_value(teams)
                    .map_err(|_| Error::field("team", "must be text, or a list of texts"))?,
            ),
        };
        let written = Self {
            title: text(&mut fields, "title")?,
            icon: text(&mut fields, "icon")?,
            team,
            properties,
            relations,
        };
        nothing_else(
            &fields,
            &["identifier", "title", "icon", "team", "properties", "relations"],
        )?;
        Ok((identifier, written))
    }

    /// Puts what it says over what there is; a property that it has null for goes.
    fn over(self, entity: &mut Entity) {
        entity.title = self.title.or(entity.title.take());
        entity.icon = self.icon.or(entity.icon.take());
        entity.team = self.team.unwrap_or_else(|| std::mem::take(&mut entity.team));
        let merge = |into: &mut Map<String, Value>, from: Option<Map<String, Value>>| {
            for (name, value) in from.into_iter().flatten() {
                match value {
                    Value::Null => drop(into.shift_remove(&name)),
                    value => drop(into.insert(name, value)),
                }
            }
        };
        merge(&mut entity.properties, self.properties);
        merge(&mut entity.relations, self.relations);
    }

    /// A new one that is as it says.
    fn fresh(self, by: &str, at_ms: i64) -> Entity {
        let mut entity = Entity {
            title: None,
            icon: None,
            team: Vec::new(),
            properties: Map::new(),
            relations: Map::new(),
            created_ms: at_ms,
            created_by: by.to_owned(),
            updated_ms: at_ms,
            updated_by: by.to_owned(),
            deleted: false,
            untold: Vec::new(),
        };
        self.over(&mut entity);
        entity
    }
}

/// What is done to an entity.
pub(super) enum Deed {
    /// It is made, and must not be there.
    Create(Written),
    /// It is made, or is as that says if it is there.
    Replace(Written),
    /// It is made, or what that says is put over what is there.
    Merge(Written),
    /// What that says is put over what is there.
    Change(Written),
    /// It is deleted.
    Delete,
}

/// An entity, and by which name.
pub(super) struct Place<'a> {
    pub(super) blueprint: &'a str,
    pub(super) id: &'a str,
    /// The run that it is a part of.
    pub(super) run: Option<&'a str>,
}

impl Actions {
    /// An entity that is there.
    pub(super) fn entity_for(
        &self,
        caller: &Caller,
        place: &Place<'_>,
        grant: Grant,
    ) -> Result<Held<Entity>, Error> {
        caller.check(grant)?;
        self.store.known()?;
        let held = self.store.entity(&caller.org.id, place.blueprint, place.id);
        let held = held.filter(|held| !held.value.deleted);
        held.ok_or_else(|| {
            let Place { blueprint, id, .. } = place;
            Error::NotFound(format!("blueprint {blueprint:?} has no entity {id:?}"))
        })
    }

    /// Does something to an entity. `matches` looks at the version that is there, 0 for none.
    ///
    /// # Errors
    /// The caller may not, it is not there, or there already, or somebody else changed it at the same time.
    pub(super) async fn put_entity(
        &self,
        caller: &Caller,
        place: &Place<'_>,
        deed: Deed,
        matches: impl FnOnce(u64) -> Result<(), Error>,
    ) -> Result<(Held<Entity>, bool), Error> {
        caller.check(Grant::Report)?;
        self.store.known()?;
        let org = &caller.org;
        let Place { blueprint, id, run } = *place;
        rules::identifier(blueprint).map_err(|why| Error::field("blueprint", why))?;
        rules::identifier(id).map_err(|why| Error::field("identifier", why))?;
        let depth = match run {
            None => 0,
            Some(run) => {
                let found = self.store.run_of(&org.id, run);
                found
                    .ok_or_else(|| Error::field("run_id", format!("no run is {run:?}")))?
                    .value
                    .depth
            }
        };
        let there = self.store.entity(&org.id, blueprint, id);
        let missing = || Error::NotFound(format!("blueprint {blueprint:?} has no entity {id:?}"));
        let alive = there.as_ref().filter(|held| !held.value.deleted);
        matches(alive.map_or(0, |held| held.value.tag()))?;
        let was = alive.map(|held| held.value.clone());
        let before = alive.map_or(Value::Null, |held| port::entity(blueprint, id, &held.value));
        let (at_ms, by) = (now_ms(), caller.user.id.as_str());
        let (mut entity, made) = match (deed, alive) {
            (Deed::Create(_), Some(_)) => {
                return Err(Error::Conflict(format!(
                    "blueprint {blueprint:?} has an entity {id:?} already: change it by PATCH, or say ?upsert=true"
                )));
            }
            (Deed::Change(_) | Deed::Delete, None) => return Err(missing()),
            (Deed::Create(written) | Deed::Replace(written) | Deed::Merge(written), None) => {
                (written.fresh(by, at_ms), true)
            }
            (Deed::Replace(written), Some(held)) => {
                let created = (held.value.created_ms, held.value.created_by.clone());
                let mut entity = written.fresh(by, at_ms);
                (entity.created_ms, entity.created_by) = created;
                (entity, false)
            }
            (Deed::Merge(written) | Deed::Change(written), Some(held)) => {
                let mut entity = held.value.clone();
                written.over(&mut entity);
                (entity, false)
            }
            (Deed::Delete, Some(held)) => {
                let mut entity = held.value.clone();
                entity.deleted = true;
                (entity, false)
            }
        };
        let last_ms = there.as_ref().map_or(0, |held| held.value.updated_ms);
        entity.updated_ms = at_ms.max(last_ms.saturating_add(1));
        by.clone_into(&mut entity.updated_by);
        let (action, after) = match (made, entity.deleted) {
            (_, true) => ("DELETE", Value::Null),
            (true, false) => ("CREATE", port::entity(blueprint, id, &entity)),
            (false, false) => ("UPDATE", port::entity(blueprint, id, &entity)),
        };
        let trigger = port::trigger(org, Some(&caller.user), "API", at_ms);
        let mut change = change(action, &trigger, at_ms, run, before, after)?;
        change.depth = depth;
        let key = key::entity(&org.id, blueprint, id);
        let watch = self.store.watch(key.clone());
        let mut there = there;
        let version = loop {
            let base = there.as_ref().map_or(0, |held| held.version);
            entity.untold = there.map_or_else(Vec::new, |held| held.value.untold);
            entity.untold.push(change.clone());
            match self.store.put(&key, base, &Item::Entity(entity.clone())).await {
                Ok(version) => break version,
                Err(Error::Conflict(why)) => {
                    let now = self.store.entity(&org.id, blueprint, id);
                    let moved = now.as_ref().map_or(0, |held| held.version) != base;
                    // Others were told of it meanwhile: nobody has changed it.
                    if !moved || !says_the_same(now.as_ref(), was.as_ref()) {
                        return Err(Error::Conflict(why));
                    }
                    there = now;
                }
                Err(error) => return Err(error),
            }
        };
        self.tell(&key);
        self.settled(&watch, &key).await;
        Ok((
            Held {
                version,
                value: entity,
            },
            made,
        ))
    }
}

/// Whether nobody has changed an entity since, whatever was told of it. One that is being deleted is none.
fn says_the_same(now: Option<&Held<Entity>>, before: Option<&Entity>) -> bool {
    let now = now.map(|held| &held.value).filter(|now| !now.deleted);
    match (now, before) {
        (None, None) => true,
        (Some(now), Some(before)) => {
            let now = Entity {
                untold: before.untold.clone(),
                ..now.clone()
            };
            now == *before
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}
