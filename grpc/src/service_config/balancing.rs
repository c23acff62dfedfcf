//! `loadBalancingConfig`, gRFC A24: the first policy of a list that is known.
//!
//! gRPC's names come with gRPC's settings, whose unknown fields are ignored. Every other name is a
//! balancer's of this project with its options, and an unknown option is an error: there is no newer
//! gRPC that might know it.

use fleetward_balancers::{Balancers, Named};
use fleetward_core::Error;
use fleetward_core::outlier::OutlierDetection;
use serde_json::Value;

use super::json::Node;
use super::outlier;

#[derive(Debug, PartialEq)]
pub(super) struct Balancing {
    pub(super) balancer: Named,
    pub(super) outlier: Option<OutlierDetection>,
}

/// Reads a list of policies. It must hold one that is known, and what stands after that is not looked
/// at.
pub(super) fn read(list: &Node<'_>, balancers: &Balancers) -> Result<Balancing, Error> {
    first_known(list, balancers, false)
}

/// Reads the older `loadBalancingPolicy`, a name in any case. Empty and `UNSPECIFIED` say nothing.
pub(super) fn read_name(
    node: &Node<'_>,
    balancers: &Balancers,
) -> Result<Option<Balancing>, Error> {
    let name = node.text()?.to_ascii_lowercase();
    if name.is_empty() || name == "unspecified" {
        return Ok(None);
    }
    let no_settings = Value::Object(serde_json::Map::new());
    let settings = node.with_value(&no_settings);
    match policy(&name, &settings, balancers, false)? {
        None => Err(unknown(node, balancers, &[&name])),
        known => Ok(known),
    }
}

fn first_known(list: &Node<'_>, balancers: &Balancers, is_child: bool) -> Result<Balancing, Error> {
    let mut passed = Vec::new();
    for item in list.items()? {
        let fields = item.fields()?;
        let [(name, settings)] = fields.as_slice() else {
            return Err(item.error("must have one field, whose name is the policy's"));
        };
        if let Some(found) = policy(name, settings, balancers, is_child)? {
            return Ok(found);
        }
        let is_meant = |known: &&str| known.eq_ignore_ascii_case(name) && known != name;
        if let Some(known) = known(balancers).find(is_meant) {
            return Err(item.error_at(name, format!("is written {known}")));
        }
        passed.push(*name);
    }
    Err(unknown(list, balancers, &passed))
}

fn unknown(node: &Node<'_>, balancers: &Balancers, passed: &[&str]) -> Error {
    let mut known: Vec<_> = known(balancers).collect();
    known.sort_unstable();
    known.dedup();
    let instead: String = passed.iter().filter_map(|name| instead_of(name)).collect();
    let (passed, known) = (passed.join(", "), known.join(", "));
    node.error(format!(
        "names no policy that is known, but [{passed}]; {instead}known ones are: {known}"
    ))
}

fn known(balancers: &Balancers) -> impl Iterator<Item = &str> {
    GRPC_NAMES.into_iter().chain(balancers.names())
}

/// What there is here instead of a policy of gRPC's.
fn instead_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "pick_first" => {
            "pick_first stays with one instance, and a channel here is connected to all: name \
             round_robin, or give its registry's URL subset=1; "
        }
        "random_subsetting_experimental" => {
            "a subset is not a policy here, but an option of the registry's URL (subset=20); "
        }
        "priority_experimental" => {
            "priority_experimental lists its children by name, which a registry does not: priority \
             tells its groups by what the registry says of instances; "
        }
        _ => return None,
    })
}

const GRPC_NAMES: [&str; 5] = [
    "round_robin",
    "weighted_round_robin",
    "least_request_experimental",
    "ring_hash_experimental",
    "outlier_detection_experimental",
];

/// A balancer of this project with its options, as a policy asks for it.
#[derive(Debug, PartialEq)]
struct Chosen<'a> {
    name: &'a str,
    options: Vec<(&'a str, String)>,
    inner: Option<Named>,
}

impl Chosen<'_> {
    const fn plain(name: &'static str) -> Self {
        Self { name, options: Vec::new(), inner: None }
    }
}

/// The policy of that name, if it is known. Outlier detection is one thing for a channel, so within
/// itself it is not.
fn policy(
    name: &str,
    settings: &Node<'_>,
    balancers: &Balancers,
    is_child: bool,
) -> Result<Option<Balancing>, Error> {
    let chosen = match name {
        "outlier_detection_experimental" if !is_child => {
            let outlier = outlier::read(settings)?;
            let child =
                settings.require("childPolicy", |list| first_known(list, balancers, true))?;
            return Ok(Some(Balancing { outlier, ..child }));
        }
        "round_robin" => {
            settings.fields()?;
            Chosen::plain("round_robin")
        }
        "weighted_round_robin" => weighted_round_robin(settings)?,
        "least_request_experimental" => least_request(settings)?,
        "ring_hash_experimental" => ring_hash(settings)?,
        _ if balancers.names().any(|known| known == name) => own(name, settings, balancers)?,
        _ => return Ok(None),
    };
    let Chosen { name, options, inner } = chosen;
    let balancer = balancers.choose(name, options, inner).map_err(|error| settings.error(error))?;
    Ok(Some(Balancing { balancer, outlier: None }))
}

/// gRFC A58. Weights are the registry's here, so what says how to make them from load reports is checked
/// and has no effect, which is said.
fn weighted_round_robin(settings: &Node<'_>) -> Result<Chosen<'static>, Error> {
    if settings.get("enableOobLoadReport", Node::boolean)? == Some(true) {
        settings.has_no_effect("enableOobLoadReport");
    }
    for period in
        ["oobReportingPeriod", "blackoutPeriod", "weightExpirationPeriod", "weightUpdatePeriod"]
    {
        if settings.get(period, Node::duration)?.is_some() {
            settings.has_no_effect(period);
        }
    }
    let penalty = settings.get("errorUtilizationPenalty", |node| match node.number()? {
        penalty if penalty >= 0.0 => Ok(penalty),
        _ => Err(node.error("must not be negative")),
    })?;
    if penalty.is_some() {
        settings.has_no_effect("errorUtilizationPenalty");
    }
    Ok(Chosen::plain("weighted_round_robin"))
}

/// gRFC A48: two or more, and more than ten is ten.
fn least_request(settings: &Node<'_>) -> Result<Chosen<'static>, Error> {
    let choices = settings.get("choiceCount", |node| match node.whole()? {
        0 | 1 => Err(node.error("must be at least 2")),
        choices => Ok(choices.min(10)),
    })?;
    let choices = choices.unwrap_or(2).to_string();
    Ok(Chosen { options: vec![("choices", choices)], ..Chosen::plain("least_request") })
}

/// gRFC A42 for the sizes, A76 for the header.
fn ring_hash(settings: &Node<'_>) -> Result<Chosen<'static>, Error> {
    const LARGEST: u32 = 8 << 20;
    /// A42: what a client grants, whatever the configuration asks for.
    const CAP: u32 = 4096;
    let size = |node: &Node<'_>| match node.whole()? {
        size if size > LARGEST => Err(node.error("must be at most 8388608")),
        size => Ok(size),
    };
    // 0 is how protobuf writes that nothing is said.
    let stated = |name| Ok::<_, Error>(settings.get(name, size)?.filter(|size| *size > 0));
    let min = stated("minRingSize")?.unwrap_or(1024);
    let max = stated("maxRingSize")?.unwrap_or(CAP);
    if min > max {
        return Err(settings.error("has a minRingSize above the maxRingSize"));
    }
    let header = settings.require("requestHashHeader", header)?;
    let [min, max] = [min, max].map(|size| size.min(CAP).to_string());
    let options = vec![("min", min), ("max", max), ("header", header)];
    Ok(Chosen { options, ..Chosen::plain("ring_hash") })
}

/// A header as gRPC has them.
fn header(node: &Node<'_>) -> Result<String, Error> {
    let name = node.text()?.to_ascii_lowercase();
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_known) {
        return Err(node.error("must be the name of a header: letters, digits, -, _ and ."));
    }
    if name.ends_with("-bin") {
        return Err(node.error("must not be a binary header"));
    }
    Ok(name)
}

/// A balancer of this project with its options. One that leaves the choice to another balancer may have
/// that as gRPC writes it, as `childPolicy`.
fn own<'a>(name: &'a str, settings: &Node<'a>, balancers: &Balancers) -> Result<Chosen<'a>, Error> {
    let mut chosen = Chosen { name, options: Vec::new(), inner: None };
    for (option, value) in settings.fields()? {
        match option {
            "childPolicy" => chosen.inner = Some(first_known(&value, balancers, true)?.balancer),
            _ => chosen.options.push((option, value.scalar()?)),
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(
        read: fn(&Node<'_>) -> Result<Chosen<'static>, Error>,
        settings: &str,
    ) -> Result<String, String> {
        let settings: Value = serde_json::from_str(settings).unwrap();
        let Chosen { name, options, inner } =
            read(&Node::new(&settings, "at")).map_err(|error| error.message().to_owned())?;
        let named = Balancers::built_in().choose(name, options, inner).unwrap();
        Ok(named.as_str().to_owned())
    }

    #[test]
    fn a_ring_is_as_large_as_is_said_and_granted_and_keyed_by_a_header_in_lower_case() {
        for (sizes, min, max) in [
            ("", 1024, 4096),
            (r#""minRingSize": 0, "maxRingSize": null,"#, 1024, 4096),
            (r#""minRingSize": 1, "maxRingSize": 1,"#, 1, 1),
            (r#""minRingSize": "2000","#, 2000, 4096),
            (r#""minRingSize": 3, "maxRingSize": 8388608,"#, 3, 4096),
            (r#""minRingSize": 5000, "maxRingSize": 8388608,"#, 4096, 4096),
        ] {
            let settings = format!(r#"{{{sizes} "requestHashHeader": "X-User_id.2"}}"#);
            let expected = format!("ring_hash?min={min}&max={max}&header=x-user_id.2");
            assert_eq!(spec(ring_hash, &settings), Ok(expected), "{sizes}");
        }
        let small = spec(ring_hash, r#"{"maxRingSize": 512, "requestHashHeader": "x"}"#);
        assert_eq!(small, Err("at: has a minRingSize above the maxRingSize".to_owned()));
    }

    #[test]
    fn how_to_make_weights_from_load_reports_is_checked_and_left() {
        let all = r#"{"enableOobLoadReport": false, "oobReportingPeriod": "10s",
            "blackoutPeriod": "10s", "weightExpirationPeriod": "180s", "weightUpdatePeriod": "1s",
            "errorUtilizationPenalty": 0, "unknown": []}"#;
        assert_eq!(spec(weighted_round_robin, all), Ok("weighted_round_robin".to_owned()));
        let wrong = spec(weighted_round_robin, r#"{"enableOobLoadReport": "yes"}"#);
        assert_eq!(wrong, Err("at.enableOobLoadReport: must be true or false".to_owned()));
    }
}
