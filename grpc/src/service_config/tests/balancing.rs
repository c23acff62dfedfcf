use std::time::Duration;

use fleetward_balancers::{Balancers, P2c};
use fleetward_core::outlier::{FailureShare, OutlierDetection, SuccessRate};

use super::{error, parse};

#[test]
fn the_first_policy_that_is_known_wins() {
    let balancer = |json: &str| parse(json).balancer().map(str::to_owned);
    for (list, spec) in [
        (r#"{"round_robin": {}}"#, "round_robin"),
        (r#"{"round_robin": {"unknown": 1}}"#, "round_robin"),
        (r#"{"pick_first": {}}, {"xds": 3}, {"round_robin": {}}, {"random": {}}"#, "round_robin"),
        (r#"{"random": {}}, {"round_robin": "not looked at"}, 7"#, "random"),
        (r#"{"peak_ewma": {"choices": 2}}"#, "peak_ewma?choices=2"),
        (r#"{"peak_ewma": {"choices": "3"}}"#, "peak_ewma?choices=3"),
        (r#"{"peak_ewma": {"choices": null}}"#, "peak_ewma"),
        (
            r#"{"least_request": {"choices": "all", "bias": 1.5}}"#,
            "least_request?bias=1.5&choices=all",
        ),
        (r#"{"least_request_experimental": {}}"#, "least_request?choices=2"),
        (
            r#"{"least_request_experimental": {"choiceCount": 4, "x": 1}}"#,
            "least_request?choices=4",
        ),
        (r#"{"least_request_experimental": {"choiceCount": 4000}}"#, "least_request?choices=10"),
        (
            r#"{"slow_start": {"window": "60s", "childPolicy": [{"pick_first": {}}, {"least_request_experimental": {"choiceCount": 3}}]}}"#,
            "slow_start?window=60s&balancer=least_request%3Fchoices%3D3",
        ),
    ] {
        assert_eq!(
            balancer(&format!(r#"{{"loadBalancingConfig": [{list}]}}"#)).as_deref(),
            Some(spec),
            "{list}"
        );
    }
    for (json, spec) in [
        (r#"{"loadBalancingPolicy": "ROUND_ROBIN"}"#, Some("round_robin")),
        (r#"{"loadBalancingPolicy": "round_robin"}"#, Some("round_robin")),
        (r#"{"loadBalancingPolicy": "peak_ewma"}"#, Some("peak_ewma")),
        (r#"{"loadBalancingPolicy": ""}"#, None),
        (
            r#"{"loadBalancingPolicy": "pick_first", "loadBalancingConfig": [{"random": {}}]}"#,
            Some("random"),
        ),
    ] {
        assert_eq!(balancer(json).as_deref(), spec, "{json}");
    }
}

#[test]
fn a_list_without_a_known_policy_is_an_error_that_names_the_known_ones() {
    for json in [
        r#"{"loadBalancingConfig": []}"#,
        r#"{"loadBalancingConfig": [{"UnknownPolicy1": {}}, {"UnknownPolicy2": {}}]}"#,
        r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {"childPolicy": [{"outlier_detection_experimental": {"childPolicy": [{"round_robin": {}}]}}]}}]}"#,
        r#"{"loadBalancingPolicy": "UnknownPolicy"}"#,
        r#"{"loadBalancingPolicy": "pick_first"}"#,
    ] {
        let found = error(json);
        assert!(found.contains("names no policy that is known"), "{found}");
        let known = found.split_once("known ones are: ").map(|(_, known)| known.split(", "));
        let known: Vec<_> = known.unwrap().collect();
        for name in ["round_robin", "ring_hash_experimental", "peak_ewma"] {
            assert!(known.contains(&name), "{found}");
        }
    }
}

#[test]
fn a_known_policy_with_wrong_settings_is_not_passed_over() {
    for (policy, expected) in [
        (
            r#"{"least_request_experimental": {"choiceCount": 1}}"#,
            "least_request_experimental.choiceCount: must be at least 2",
        ),
        (
            r#"{"ring_hash_experimental": {}}"#,
            "ring_hash_experimental.requestHashHeader: is required",
        ),
        (
            r#"{"ring_hash_experimental": {"minRingSize": 8388609}}"#,
            "ring_hash_experimental.minRingSize: must be at most 8388608",
        ),
        (
            r#"{"ring_hash_experimental": {"minRingSize": 5000}}"#,
            "ring_hash_experimental: has a minRingSize above the maxRingSize",
        ),
        (
            r#"{"ring_hash_experimental": {"requestHashHeader": "user-bin"}}"#,
            "ring_hash_experimental.requestHashHeader: must not be a binary header",
        ),
        (
            r#"{"ring_hash_experimental": {"requestHashHeader": "a&b"}}"#,
            "ring_hash_experimental.requestHashHeader: must be the name of a header: letters, digits, -, _ and .",
        ),
        (
            r#"{"weighted_round_robin": {"errorUtilizationPenalty": -0.1}}"#,
            "weighted_round_robin.errorUtilizationPenalty: must not be negative",
        ),
        (
            r#"{"weighted_round_robin": {"blackoutPeriod": "10"}}"#,
            "weighted_round_robin.blackoutPeriod: must be a duration such as \"1.5s\"",
        ),
        (
            r#"{"peak_ewma": {"choices": [2]}}"#,
            "peak_ewma.choices: must be a string, a number or a boolean",
        ),
        (
            r#"{"peak_ewma": {"choices": 1}}"#,
            "peak_ewma: invalid input: the option is 2 to 10 (option=choices, balancer=peak_ewma)",
        ),
        (
            r#"{"random": {"choices&x": 1}}"#,
            "random: invalid input: unknown option; known options are: none (option=choices&x, balancer=random)",
        ),
    ] {
        let found =
            error(&format!(r#"{{"loadBalancingConfig": [{policy}, {{"round_robin": {{}}}}]}}"#));
        assert_eq!(found, format!("loadBalancingConfig[0].{expected}"));
    }
}

#[test]
fn outlier_detection_has_grpcs_two_rules_and_defaults_and_no_others() {
    let only = OutlierDetection::default()
        .with_consecutive_failures(None)
        .with_moving_success_rate(None)
        .with_success_rate(Some(grpc_rate(1.9, 5, 100)));
    let both = only.clone();
    assert_eq!(
        detection(r#""successRateEjection": {}, "failurePercentageEjection": {},"#),
        Some(both)
    );
    let rate = only.clone().with_failure_share(None);
    assert_eq!(detection(r#""successRateEjection": {"enforcementPercentage": 100},"#), Some(rate));
    let share = only.clone().with_success_rate(None);
    assert_eq!(detection(r#""failurePercentageEjection": {},"#), Some(share));
    assert_eq!(detection(""), None);
    assert_eq!(detection(r#""successRateEjection": {"enforcementPercentage": 0},"#), None);

    let set = detection(
        r#""interval": "1s", "baseEjectionTime": "400s", "maxEjectionTime": "900s", "maxEjectionPercent": 50,
           "successRateEjection": {"stdevFactor": 1500, "minimumHosts": 3, "requestVolume": 10},
           "failurePercentageEjection": {"threshold": 40, "minimumHosts": 2, "requestVolume": 20},"#,
    );
    let seconds = Duration::from_secs;
    let mut share = FailureShare::default();
    (share.threshold, share.min_instances, share.min_requests) = (0.4, 2, 20);
    let expected = only
        .with_interval(seconds(1))
        .with_ejection_time(seconds(400), seconds(900))
        .with_max_ejected(0.5)
        .with_success_rate(Some(grpc_rate(1.5, 3, 10)))
        .with_failure_share(Some(share));
    assert_eq!(set, Some(expected.clone()));
    // Without a maximum it is 300 s or the base, whichever is more.
    let long = detection(r#""baseEjectionTime": "400s", "successRateEjection": {},"#).unwrap();
    let by_base = OutlierDetection::default().with_ejection_time(seconds(400), seconds(400));
    assert_eq!(
        long,
        by_base
            .with_consecutive_failures(None)
            .with_moving_success_rate(None)
            .with_failure_share(None)
            .with_success_rate(Some(grpc_rate(1.9, 5, 100)))
    );
}

/// gRPC's rule, which knows no least difference.
fn grpc_rate(deviations: f64, min_instances: usize, min_requests: u32) -> SuccessRate {
    let mut rate = SuccessRate::default();
    (rate.deviations, rate.min_difference) = (deviations, 0.0);
    (rate.min_instances, rate.min_requests) = (min_instances, min_requests);
    rate
}

#[test]
fn grpc_s_policies_by_key_and_weight_are_known() {
    for (policy, spec) in [
        (
            r#"{"ring_hash_experimental": {"requestHashHeader": "X-User"}}"#,
            "ring_hash?min=1024&max=4096&header=x-user",
        ),
        (r#"{"weighted_round_robin": {"blackoutPeriod": "10s"}}"#, "weighted_round_robin"),
        (r#"{"maglev": {"header": "a b&c", "load": 1.25}}"#, "maglev?header=a+b%26c&load=1.25"),
    ] {
        let json = format!(r#"{{"loadBalancingConfig": [{policy}]}}"#);
        let config = parse(&json);
        assert_eq!(config.balancer(), Some(spec), "{policy}");
    }
}

#[test]
fn every_rule_of_outlier_detection_is_checked_and_its_place_named() {
    for (settings, expected) in [
        (r#""interval": "-1s""#, "interval: must not be negative"),
        (r#""baseEjectionTime": 1"#, "baseEjectionTime: must be a string"),
        (r#""maxEjectionTime": "x""#, "maxEjectionTime: must be a duration such as \"1.5s\""),
        (r#""maxEjectionPercent": 101"#, "maxEjectionPercent: must be at most 100"),
        (
            r#""successRateEjection": {"enforcementPercentage": 101}"#,
            "successRateEjection.enforcementPercentage: must be at most 100",
        ),
        (
            r#""successRateEjection": {"enforcementPercentage": 50}"#,
            "successRateEjection.enforcementPercentage: must be 0 or 100; a rule is enforced always or never",
        ),
        (
            r#""successRateEjection": {"stdevFactor": 1.9}"#,
            "successRateEjection.stdevFactor: must be a whole number from 0 to 4294967295",
        ),
        (
            r#""failurePercentageEjection": {"threshold": 101}"#,
            "failurePercentageEjection.threshold: must be at most 100",
        ),
        (
            r#""failurePercentageEjection": {"minimumHosts": -1}"#,
            "failurePercentageEjection.minimumHosts: must be a whole number from 0 to 4294967295",
        ),
        (r#""failurePercentageEjection": 1"#, "failurePercentageEjection: must be an object"),
        ("", "childPolicy: is required"),
        (r#""childPolicy": {}"#, "childPolicy: must be a list"),
    ] {
        let found = error(&format!(
            r#"{{"loadBalancingConfig": [{{"outlier_detection_experimental": {{{settings}}}}}]}}"#
        ));
        assert_eq!(
            found,
            format!("loadBalancingConfig[0].outlier_detection_experimental.{expected}")
        );
    }
}

fn detection(settings: &str) -> Option<OutlierDetection> {
    let json = format!(
        r#"{{"loadBalancingConfig": [{{"outlier_detection_experimental":
            {{{settings} "childPolicy": [{{"round_robin": {{}}}}]}}}}]}}"#
    );
    let config = parse(&json);
    assert_eq!(config.balancer(), Some("round_robin"));
    config.outlier_detection().cloned()
}

#[test]
fn a_policy_that_is_not_here_says_what_is() {
    for (name, says) in [
        ("pick_first", "a channel here is connected to all"),
        ("random_subsetting_experimental", "an option of the registry's URL (subset=20)"),
        ("priority_experimental", "priority tells its groups"),
    ] {
        let found = error(&format!(r#"{{"loadBalancingConfig": [{{"{name}": {{}}}}]}}"#));
        assert!(found.contains(says), "{found}");
        let found = error(&format!(r#"{{"loadBalancingPolicy": "{name}"}}"#));
        assert!(found.contains(says), "{found}");
        // A list for clients of all kinds is read on.
        let json =
            format!(r#"{{"loadBalancingConfig": [{{"{name}": {{}}}}, {{"random": {{}}}}]}}"#);
        assert_eq!(parse(&json).balancer(), Some("random"));
    }
}

#[test]
fn a_field_without_effect_is_told() {
    let told = |settings: &str| {
        let events = Events::default();
        let json =
            format!(r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {{{settings}}}}}]}}"#);
        tracing::subscriber::with_default(events.clone(), || {
            assert_eq!(parse(&json).balancer(), Some("weighted_round_robin"));
        });
        events.0.lock().unwrap().clone()
    };
    for (settings, field) in [
        (r#""errorUtilizationPenalty": 1.5"#, "errorUtilizationPenalty"),
        (r#""oobReportingPeriod": "10s", "enableOobLoadReport": false"#, "oobReportingPeriod"),
        (r#""blackoutPeriod": "10s""#, "blackoutPeriod"),
        (r#""weightExpirationPeriod": "180s""#, "weightExpirationPeriod"),
        (r#""weightUpdatePeriod": "1s""#, "weightUpdatePeriod"),
        (r#""enableOobLoadReport": true"#, "enableOobLoadReport"),
    ] {
        let place = format!("loadBalancingConfig[0].weighted_round_robin.{field}");
        assert_eq!(told(settings), [place], "{settings}");
    }
    assert!(told("").is_empty());
}

/// The field `field` of each event.
#[derive(Clone, Default)]
struct Events(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::field::Visit for Events {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "field" {
            self.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "fleetward"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_balancer_of_one_s_own_is_a_policy_where_its_table_is() {
    let json = r#"{"loadBalancingConfig": [
        {"slow_start": {"window": "60s", "childPolicy": [{"first": {}}]}}
    ]}"#;
    let balancers = Balancers::new().with_balancer("first", |_| Ok(P2c::new()));
    let config = crate::ServiceConfig::parse_with(json, &balancers).unwrap();
    assert!(format!("{:?}", config.make_balancer()).contains("P2c"));
    assert!(error(json).contains("names no policy that is known, but [first]"));
    let wrong = json.replace("{\"first\": {}}", r#"{"first": {"x": 1}}"#);
    let wrong = crate::ServiceConfig::parse_with(&wrong, &balancers).unwrap_err().to_string();
    assert!(wrong.contains("option=x"), "{wrong}");
}
