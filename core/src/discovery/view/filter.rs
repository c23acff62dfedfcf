//! Conditions on instances as data, so that a URL or a configuration file can hold them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::View;
use crate::registry::redact;
use crate::{Error, Health, Instance};

/// The instances that fulfil every one of some conditions.
///
/// ```
/// use fleetward_core::Instance;
/// use fleetward_core::discovery::Filter;
/// let filter: Filter = "version=v2".parse()?;
/// let filter = filter.and("zone!=eu-1a".parse()?);
/// assert_eq!(filter, Filter::version("v2").and(Filter::zone("eu-1a").negated()));
/// assert!(filter.matches(&Instance::new("10.0.0.1:80")?.with_version("v2")));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// As text a condition is `field=value` or `field!=value`, where the field is one of
///
/// | field | is compared with |
/// |---|---|
/// | `version` | [`Instance::version`] |
/// | `zone` | [`Instance::zone`] |
/// | `meta.KEY` | the value of `KEY` in [`Instance::metadata`] |
/// | `tag` | each of [`Instance::tags`] and, for those who write them there, of the metadata `tags`, separated by commas |
/// | `health` | [`Instance::health`]: `healthy`, `unknown`, `degraded`, `unhealthy` or `maintenance` |
///
/// Values are compared byte by byte. An instance that says nothing is one whose value is empty, so
/// `zone=` are those without a zone, and `zone!=eu-1a` matches them. A filter without conditions
/// matches everything. Of an instance with more [tags](crate::model::Tags) than are kept, it is not known whether it has
/// another one: neither `tag=x` nor `tag!=x` matches it then.
///
/// It is a [`View`] for [`InstancerExt::view`](crate::discovery::InstancerExt::view). When nothing matches,
/// nothing is shown, unless the filter is told otherwise ([`or_all`](Self::or_all)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    conditions: Vec<Condition>,
    or_all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: Field,
    value: Box<str>,
    negated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Version,
    Zone,
    Tag,
    Health,
    Meta(Box<str>),
}

impl Filter {
    /// Instances of that version.
    pub fn version(version: &str) -> Self {
        Self::of(Field::Version, version)
    }

    /// Instances in that zone.
    pub fn zone(zone: &str) -> Self {
        Self::of(Field::Zone, zone)
    }

    /// Instances that have that tag.
    pub fn tag(tag: &str) -> Self {
        Self::of(Field::Tag, tag)
    }

    /// Instances of which the registry says that.
    pub fn health(health: Health) -> Self {
        Self::of(Field::Health, health.as_str())
    }

    /// Instances whose metadata has that value under that key.
    pub fn meta(key: &str, value: &str) -> Self {
        Self::of(Field::Meta(key.into()), value)
    }

    fn of(field: Field, value: &str) -> Self {
        let condition = Condition { field, value: value.into(), negated: false };
        Self { conditions: vec![condition], or_all: false }
    }

    /// Reads one condition, `field=value` or `field!=value`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else; the message lists the
    /// fields there are, or what health there is.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some((field, value)) = text.split_once('=') else {
            return Err(Error::invalid_input(format!(
                "a filter is field=value or field!=value; fields are: {FIELDS}"
            )));
        };
        let (field, negated) = match field.strip_suffix('!') {
            Some(field) => (field, true),
            None => (field, false),
        };
        let field = match field {
            "version" => Field::Version,
            "zone" => Field::Zone,
            "tag" => Field::Tag,
            "health" => {
                value.parse::<Health>()?;
                Field::Health
            }
            _ => match field.strip_prefix("meta.").filter(|key| !key.is_empty()) {
                Some(key) => Field::Meta(key.into()),
                None => {
                    let message = format!("unknown field of a filter; fields are: {FIELDS}");
                    return Err(
                        Error::invalid_input(message).with_context("field", redact::name(field))
                    );
                }
            },
        };
        let filter = Self::of(field, value);
        Ok(if negated { filter.negated() } else { filter })
    }

    /// Adds the conditions of another filter: all must hold.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.conditions.extend(other.conditions);
        self.or_all |= other.or_all;
        self
    }

    /// Turns every condition into its contrary: none of them may hold.
    #[must_use]
    pub fn negated(mut self) -> Self {
        for condition in &mut self.conditions {
            condition.negated = !condition.negated;
        }
        self
    }

    /// Shows all instances when none that takes calls matches, rather than none: a preference and
    /// no rule.
    #[must_use]
    pub fn or_all(mut self) -> Self {
        self.or_all = true;
        self
    }

    /// Whether the instance fulfils every condition.
    pub fn matches(&self, instance: &Instance) -> bool {
        self.conditions.iter().all(|condition| condition.holds(instance))
    }
}

const FIELDS: &str = "health, meta.KEY, tag, version, zone";

impl Condition {
    /// Only if that is certain.
    fn holds(&self, instance: &Instance) -> bool {
        self.equals(instance).is_some_and(|equal| equal != self.negated)
    }

    /// Nothing if it is not known.
    fn equals(&self, instance: &Instance) -> Option<bool> {
        let value = &*self.value;
        let metadata = |key: &str| instance.metadata().get(key).unwrap_or_default();
        Some(match &self.field {
            Field::Version => instance.version().unwrap_or_default() == value,
            Field::Zone => instance.zone().unwrap_or_default() == value,
            Field::Meta(key) => metadata(key) == value,
            Field::Health => instance.health().as_str() == value,
            Field::Tag => {
                let mut listed =
                    metadata("tags").split(',').map(str::trim).filter(|t| !t.is_empty());
                match value {
                    "" => listed.next().is_none() && instance.tags().is_empty(),
                    _ => listed.any(|tag| tag == value) || instance.tags().has(value)?,
                }
            }
        })
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Condition { field, value, negated }) in self.conditions.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            match field {
                Field::Version => f.write_str("version")?,
                Field::Zone => f.write_str("zone")?,
                Field::Tag => f.write_str("tag")?,
                Field::Health => f.write_str("health")?,
                Field::Meta(key) => write!(f, "meta.{key}")?,
            }
            write!(f, "{}{value}", if *negated { "!=" } else { "=" })?;
        }
        f.write_str(if self.or_all { ", or all" } else { "" })
    }
}

impl View for Filter {
    fn choose(&self, all: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
        let chosen: Vec<_> =
            all.iter().filter(|instance| self.matches(instance)).cloned().collect();
        if self.or_all && chosen.iter().all(|instance| instance.is_draining()) {
            return all.to_vec();
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metadata;
    use crate::model::Tags;

    fn instance(metadata: &[(&str, &str)]) -> Instance {
        let metadata = Metadata::new(metadata.iter().copied()).unwrap();
        Instance::new("10.0.0.1:80").unwrap().with_metadata(metadata)
    }

    fn holds(filter: &str, instance: &Instance) -> bool {
        Filter::parse(filter).unwrap().matches(instance)
    }

    #[test]
    fn each_field_is_compared_with_what_it_names() {
        let it = instance(&[("team", "shop"), ("a=b", "c")]).with_version("v2").with_zone("eu-1a");
        for (filter, expected) in [
            ("version=v2", true),
            ("version=v", false),
            ("version!=v2", false),
            ("version!=v1", true),
            ("zone=eu-1a", true),
            ("zone=EU-1A", false),
            ("zone=", false),
            ("zone!=", true),
            ("meta.team=shop", true),
            ("meta.team=", false),
            ("meta.nobody=", true),
            ("meta.nobody!=x", true),
            ("meta.team=a=b", false),
            ("tag=", true),
        ] {
            assert_eq!(holds(filter, &it), expected, "{filter}");
        }
        assert!(holds("meta.k=a=b", &instance(&[("k", "a=b")])), "only the first = divides");
        let nothing = instance(&[]);
        assert!(holds("zone=", &nothing) && holds("zone!=eu-1a", &nothing));
    }

    #[test]
    fn tags_are_the_instances_own_and_a_list_under_tags() {
        let own = instance(&[]).with_tags(Tags::new(["v=1,2", "a\"b\\", "a,", ",b", "ü"]));
        for (tag, expected) in [
            ("v=1,2", true),
            ("v=1", false),
            ("a\"b\\", true),
            ("b\\", false),
            ("a,", true),
            (",", false),
            ("ü", true),
            ("", false),
        ] {
            assert_eq!(Filter::tag(tag).matches(&own), expected, "{tag}");
            assert_eq!(Filter::tag(tag).negated().matches(&own), !expected, "{tag}");
        }
        let listed = instance(&[("tags", "canary, blue")]);
        for (tag, expected) in [("canary", true), ("blue", true), ("can", false), ("", false)] {
            assert_eq!(Filter::tag(tag).matches(&listed), expected, "{tag}");
        }
    }

    #[test]
    fn what_is_not_known_fulfils_neither_a_condition_nor_its_contrary() {
        let tags = Tags::new((0..Tags::MAX).map(|n| n.to_string()).chain(["canary".to_owned()]));
        let it = instance(&[]).with_tags(tags);
        for (filter, expected) in [
            ("tag=canary", false),
            ("tag!=canary", false),
            ("tag=7", true),
            ("tag!=7", false),
            ("tag=", false),
            ("tag!=", true),
        ] {
            assert_eq!(holds(filter, &it), expected, "{filter}");
        }
    }

    #[test]
    fn health_is_what_the_registry_says() {
        let ill = instance(&[]).with_health(Health::Unhealthy);
        assert!(holds("health=unhealthy", &ill) && !holds("health!=unhealthy", &ill));
        assert!(holds("health=unknown", &instance(&[])));
        assert_eq!(Filter::health(Health::Healthy).to_string(), "health=healthy");
        let error = Filter::parse("health=passing").unwrap_err().to_string();
        assert!(error.contains("maintenance, unhealthy, degraded, unknown, healthy"), "{error}");
    }

    #[test]
    fn what_is_no_filter_is_an_error_that_lists_the_fields() {
        for bad in ["", "v2", "team=shop", "meta.=x", "meta=x", "=x", "!=x", "Zone=x", "zone =x"] {
            let error = Filter::parse(bad).unwrap_err();
            assert!(error.to_string().contains("meta.KEY, tag, version, zone"), "{bad}: {error}");
            assert!(error.is_permanent());
        }
    }

    #[test]
    fn several_conditions_must_all_hold_and_text_shows_them() {
        let filter = Filter::version("v2").and(Filter::meta("team", "shop").negated());
        assert_eq!(filter.to_string(), "version=v2, meta.team!=shop");
        assert!(filter.matches(&instance(&[]).with_version("v2")));
        assert!(!filter.matches(&instance(&[("team", "shop")]).with_version("v2")));
        assert!(!filter.matches(&instance(&[])));
        assert!(Filter::default().matches(&instance(&[])));
    }

    #[test]
    fn a_preference_shows_all_only_when_nothing_that_takes_calls_matches() {
        let old = Arc::new(instance(&[]).with_version("v1"));
        let new = Arc::new(Instance::new("10.0.0.2:80").unwrap().with_version("v2"));
        let draining = Arc::new(Instance::clone(&new).with_weight(0));
        let rule = Filter::version("v2");
        let preference = rule.clone().or_all();
        assert_eq!(preference.choose(&[old.clone(), new.clone()]), [new]);
        assert_eq!(preference.choose(std::slice::from_ref(&old)).len(), 1);
        assert_eq!(preference.choose(&[old.clone(), draining.clone()]).len(), 2);
        assert_eq!(rule.choose(&[old, draining.clone()]), [draining]);
    }
}
