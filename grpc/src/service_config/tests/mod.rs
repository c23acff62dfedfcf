mod balancing;
mod fuzz;
mod policies;

use std::time::Duration;

use super::*;

fn parse(json: &str) -> ServiceConfig {
    ServiceConfig::parse(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn error(json: &str) -> String {
    match ServiceConfig::parse(json) {
        Ok(config) => panic!("no error for {json}, but {config:?}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{json}");
            error.to_string().replacen("service config: invalid input: ", "", 1)
        }
    }
}

/// The one method of a configuration, which has this in its `methodConfig`.
fn method(fields: &str) -> MethodConfig {
    let config =
        parse(&format!(r#"{{"methodConfig": [{{"name": [{{"service": "S"}}], {fields}}}]}}"#));
    config.method("/S/M").clone()
}

#[test]
fn the_most_specific_name_wins_and_nothing_is_mixed() {
    // The example in service_config.proto, with one more.
    let config = parse(
        r#"{"methodConfig": [
            {"name": [{}], "timeout": "1s"},
            {"name": [{"service": "MyService"}], "timeout": "2s"},
            {"name": [{"service": "MyService", "method": "Foo"},
                      {"service": "a.b.Other", "method": "Foo"}], "waitForReady": true}
        ]}"#,
    );
    let of = |path| {
        (config.method(path).timeout().map(|it| it.as_secs()), config.method(path).wait_for_ready())
    };
    assert_eq!(of("/MyService/Foo"), (None, Some(true)));
    assert_eq!(of("/a.b.Other/Foo"), (None, Some(true)));
    assert_eq!(of("/MyService/Bar"), (Some(2), None));
    assert_eq!(of("/MyService/Foo/"), (Some(1), None));
    assert_eq!(of("/MyService/foo"), (Some(2), None));
    for other in [
        "/AnotherService/Baz",
        "/a.b.Other/Bar",
        "/MyService2/Foo",
        "/MyService",
        "MyService/Foo",
        "/",
        "",
        "//",
        "é",
        "/é/é",
    ] {
        assert_eq!(of(other), (Some(1), None), "{other}");
    }
    let silent = parse(r#"{"methodConfig": [{"name": [{"service": "S"}], "timeout": "1s"}]}"#);
    assert_eq!(silent.method("/T/M"), &MethodConfig::new());
}

#[test]
fn null_and_empty_are_absent_and_unknown_fields_are_ignored() {
    let config = parse(
        r#"{"UnknownField": {"value": [1, null]}, "retryThrottling": null, "loadBalancingConfig": null,
            "loadBalancingPolicy": "UNSPECIFIED", "healthCheckConfig": {"unknown": 1},
            "methodConfig": [
                {"name": [{"service": "s", "method": null, "x": 1}], "timeout": null, "retryPolicy": null},
                {"name": [{"service": "", "method": ""}], "timeout": "0s", "unknown": -1},
                {"name": [], "timeout": "1s"},
                {"timeout": "1s"}]}"#,
    );
    assert_eq!(config.method("/s/M"), &MethodConfig::new());
    assert_eq!(config.method("/t/M").timeout(), Some(Duration::ZERO));
    assert_eq!((config.balancer(), config.health_check_service()), (None, None));
    assert_eq!(parse("{}"), ServiceConfig::default());
}

/// At every level, whatever else is there; so that nothing is meant and ignored.
#[test]
fn a_field_that_differs_by_case_is_refused_and_named() {
    for (json, place) in [
        (r#"{"MethodConfig": []}"#, "MethodConfig: is written methodConfig"),
        (r#"{"methodConfig": [], "methodconfig": []}"#, "methodconfig: is written methodConfig"),
        (
            r#"{"loadBalancingConfig": [{"random": {}}], "LoadBalancingPolicy": "random"}"#,
            "LoadBalancingPolicy: is written loadBalancingPolicy",
        ),
        (
            r#"{"LoadBalancingPolicy": "round_robin"}"#,
            "LoadBalancingPolicy: is written loadBalancingPolicy",
        ),
        (
            r#"{"loadBalancingConfig": [{"Round_Robin": {}}, {"random": {}}]}"#,
            "loadBalancingConfig[0].Round_Robin: is written round_robin",
        ),
        (
            r#"{"loadBalancingConfig": [{"ring_hash_experimental": {"RequestHashHeader": "x"}}]}"#,
            "loadBalancingConfig[0].ring_hash_experimental.RequestHashHeader: is written requestHashHeader",
        ),
        (
            r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {"successRateEjection": {"StdevFactor": 1}, "childPolicy": [{"random": {}}]}}]}"#,
            "successRateEjection.StdevFactor: is written stdevFactor",
        ),
        (r#"{"methodConfig": [{"Name": [{}]}]}"#, "methodConfig[0].Name: is written name"),
        (
            r#"{"methodConfig": [{"name": [{"Service": "S"}]}]}"#,
            "methodConfig[0].name[0].Service: is written service",
        ),
        (r#"{"methodConfig": [{"TimeOut": "1s"}]}"#, "methodConfig[0].TimeOut: is written timeout"),
        (
            r#"{"methodConfig": [{"retryPolicy": {"MaxAttempts": 3}}]}"#,
            "methodConfig[0].retryPolicy.MaxAttempts: is written maxAttempts",
        ),
        (
            r#"{"methodConfig": [{"hedgingPolicy": {"maxAttempts": 3, "HedgingDelay": "1s"}}]}"#,
            "methodConfig[0].hedgingPolicy.HedgingDelay: is written hedgingDelay",
        ),
        (r#"{"RetryThrottling": {}}"#, "RetryThrottling: is written retryThrottling"),
        (
            r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 1, "TokenRatio": 2}}"#,
            "retryThrottling.TokenRatio: is written tokenRatio",
        ),
        (
            r#"{"healthCheckConfig": {"ServiceName": "S"}}"#,
            "healthCheckConfig.ServiceName: is written serviceName",
        ),
    ] {
        let found = error(json);
        assert!(found.contains(place), "{json}: {found}");
    }
    // Absent is absent.
    parse(r#"{"MethodConfig": null}"#);
}

#[test]
fn every_field_of_a_method_is_read() {
    let config = method(
        r#""waitForReady": false, "timeout": "3.000000001s", "maxRequestMessageBytes": 0,
           "maxResponseMessageBytes": "4294967295""#,
    );
    assert_eq!(config.wait_for_ready(), Some(false));
    assert_eq!(config.timeout(), Some(Duration::new(3, 1)));
    assert_eq!(config.max_request_message_bytes(), Some(0));
    assert_eq!(config.max_response_message_bytes(), Some(u32::MAX));
    let health = |json| parse(json).health_check_service().map(str::to_owned);
    assert_eq!(
        health(r#"{"healthCheckConfig": {"serviceName": "greet.Greeter"}}"#).unwrap(),
        "greet.Greeter"
    );
    assert_eq!(health(r#"{"healthCheckConfig": {"serviceName": ""}}"#).unwrap(), "");
}

#[test]
fn a_name_stands_once_in_the_whole_configuration() {
    let twice = |a: &str, b: &str| {
        error(&format!(
            r#"{{"methodConfig": [{{"name": [{a}]}}, {{"name": [{{"service": "T"}}, {b}]}}]}}"#
        ))
    };
    for (a, b) in [
        ("{}", r#"{"service": "", "method": null}"#),
        (r#"{"service": "S"}"#, r#"{"service": "S", "method": ""}"#),
        (r#"{"service": "S", "method": "M"}"#, r#"{"method": "M", "service": "S"}"#),
    ] {
        let found = twice(a, b);
        assert!(found.starts_with("methodConfig[1].name[1]: is named before"), "{found}");
    }
}

#[test]
fn every_other_rule_is_checked_and_its_place_named() {
    for (json, expected) in [
        (r#"[]"#, "the config must be an object"),
        (r#""{}""#, "the config must be an object"),
        (r#"null"#, "the config must be an object"),
        (r#"{"methodConfig": {}}"#, "methodConfig: must be a list"),
        (r#"{"methodConfig": [null]}"#, "methodConfig[0]: must be an object"),
        (r#"{"methodConfig": [{"name": {}}]}"#, "methodConfig[0].name: must be a list"),
        (
            r#"{"methodConfig": [{}, {"name": [{"method": "M"}]}]}"#,
            "methodConfig[1].name[0]: has a method, but no service",
        ),
        (
            r#"{"methodConfig": [{"name": [{"service": 1}]}]}"#,
            "methodConfig[0].name[0].service: must be a string",
        ),
        (
            r#"{"methodConfig": [{"waitForReady": "yes"}]}"#,
            "methodConfig[0].waitForReady: must be true or false",
        ),
        (
            r#"{"methodConfig": [{"timeout": "-1s"}]}"#,
            "methodConfig[0].timeout: must not be negative",
        ),
        (r#"{"methodConfig": [{"timeout": 1}]}"#, "methodConfig[0].timeout: must be a string"),
        (
            r#"{"methodConfig": [{"timeout": "315576000001s"}]}"#,
            "methodConfig[0].timeout: must be at most 315576000000s",
        ),
        (
            r#"{"methodConfig": [{"maxRequestMessageBytes": -1}]}"#,
            "methodConfig[0].maxRequestMessageBytes: must be a whole number from 0 to 4294967295",
        ),
        (
            r#"{"methodConfig": [{"maxResponseMessageBytes": 4294967296}]}"#,
            "methodConfig[0].maxResponseMessageBytes: must be a whole number from 0 to 4294967295",
        ),
        (
            r#"{"methodConfig": [{"retryPolicy": []}]}"#,
            "methodConfig[0].retryPolicy: must be an object",
        ),
        (
            r#"{"methodConfig": [{"hedgingPolicy": {}}]}"#,
            "methodConfig[0].hedgingPolicy.maxAttempts: is required",
        ),
        (
            r#"{"methodConfig": [{"hedgingPolicy": {"maxAttempts": 1}}]}"#,
            "methodConfig[0].hedgingPolicy.maxAttempts: must be at least 2",
        ),
        (
            r#"{"methodConfig": [{"hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "-1s"}}]}"#,
            "methodConfig[0].hedgingPolicy.hedgingDelay: must not be negative",
        ),
        (
            r#"{"methodConfig": [{"hedgingPolicy": {"maxAttempts": 2, "nonFatalStatusCodes": ["OK"]}}]}"#,
            "methodConfig[0].hedgingPolicy.nonFatalStatusCodes[0]: is OK, which is no failure",
        ),
        (r#"{"retryThrottling": {"tokenRatio": 1}}"#, "retryThrottling.maxTokens: is required"),
        (r#"{"retryThrottling": {"maxTokens": 1}}"#, "retryThrottling.tokenRatio: is required"),
        (
            r#"{"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}"#,
            "retryThrottling.maxTokens: must be from 1 to 1000 tokens",
        ),
        (
            r#"{"retryThrottling": {"maxTokens": 1001, "tokenRatio": 1}}"#,
            "retryThrottling.maxTokens: must be from 1 to 1000 tokens",
        ),
        (
            r#"{"retryThrottling": {"maxTokens": 1.5, "tokenRatio": 1}}"#,
            "retryThrottling.maxTokens: must be a whole number from 0 to 4294967295",
        ),
        (
            r#"{"retryThrottling": {"maxTokens": 1, "tokenRatio": 0}}"#,
            "retryThrottling.tokenRatio: must be a ratio of at least 0.001",
        ),
        (
            r#"{"retryThrottling": {"maxTokens": 1, "tokenRatio": 0.0009}}"#,
            "retryThrottling.tokenRatio: must be a ratio of at least 0.001",
        ),
        (
            r#"{"retryThrottling": {"maxTokens": 1, "tokenRatio": "NaN"}}"#,
            "retryThrottling.tokenRatio: must be a number",
        ),
        (r#"{"healthCheckConfig": "x"}"#, "healthCheckConfig: must be an object"),
        (
            r#"{"healthCheckConfig": {"serviceName": 1}}"#,
            "healthCheckConfig.serviceName: must be a string",
        ),
        (r#"{"loadBalancingConfig": {}}"#, "loadBalancingConfig: must be a list"),
        (
            r#"{"loadBalancingConfig": ["round_robin"]}"#,
            "loadBalancingConfig[0]: must be an object",
        ),
        (
            r#"{"loadBalancingConfig": [{}]}"#,
            "loadBalancingConfig[0]: must have one field, whose name is the policy's",
        ),
        (
            r#"{"loadBalancingConfig": [{"a": {}, "b": {}}]}"#,
            "loadBalancingConfig[0]: must have one field, whose name is the policy's",
        ),
        (
            r#"{"loadBalancingConfig": [{"x": 1}, {"round_robin": 1}]}"#,
            "loadBalancingConfig[1].round_robin: must be an object",
        ),
        (r#"{"loadBalancingPolicy": 1}"#, "loadBalancingPolicy: must be a string"),
        (
            r#"{"loadBalancingPolicy": "outlier_detection_experimental"}"#,
            "loadBalancingPolicy.childPolicy: is required",
        ),
    ] {
        assert_eq!(error(json), expected, "{json}");
    }
}

#[test]
fn what_is_no_json_is_an_error_that_says_where() {
    let deep = "[".repeat(100_000);
    let nested = format!(r#"{{"x": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (json, part) in [
        ("", "EOF"),
        ("{", "EOF"),
        (r#"{"methodConfig" : {"Service // bad format"#, "EOF"),
        (r#"{} {}"#, "trailing"),
        (r#"{"timeout": NaN}"#, "line 1 column 13"),
        (r#"{"x": 1e400}"#, "number out of range"),
        (r#"{"a": {"b": 1, "c": 2, "b": 1}}"#, "the field \"b\" stands twice at line 1 column 26"),
        (r#"{"a": [{"\u0062": 1, "b": 1}]}"#, "the field \"b\" stands twice"),
        (deep.as_str(), "recursion limit"),
        (nested.as_str(), "recursion limit"),
    ] {
        let found = error(json);
        assert!(found.starts_with("not JSON: ") && found.contains(part), "{found}");
    }
}

#[test]
fn a_text_over_the_limit_is_not_even_looked_at() {
    let padded = |bytes| format!("{{}}{}", " ".repeat(bytes - 2));
    assert!(ServiceConfig::parse(&padded(ServiceConfig::MAX_BYTES)).is_ok());
    let error = ServiceConfig::parse(&padded(ServiceConfig::MAX_BYTES + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_configuration_in_code_is_that_in_json() {
    let built = ServiceConfig::builder()
        .method("/a.S/M", MethodConfig::new().with_timeout(Duration::from_secs(1)))
        .service("a.S", MethodConfig::new().with_timeout(Duration::from_secs(2)))
        .every_other(MethodConfig::new().with_wait_for_ready(true))
        .balancer("peak_ewma?choices=3")
        .retry_throttling(RetryThrottling::new(10, 0.1).unwrap())
        .health_check_service("a.S")
        .build();
    let read = parse(
        r#"{"methodConfig": [{"name": [{"service": "a.S"}], "timeout": "2s"},
                {"name": [{}], "waitForReady": true},
                {"name": [{"service": "a.S", "method": "M"}], "timeout": "1s"}],
            "loadBalancingConfig": [{"peak_ewma": {"choices": 3}}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
            "healthCheckConfig": {"serviceName": "a.S"}}"#,
    );
    assert_eq!(built.unwrap(), read);
}

#[test]
fn what_is_wrong_in_code_is_an_error_of_the_build() {
    let config = MethodConfig::new;
    let builder = ServiceConfig::builder;
    for (built, part) in [
        (builder().method("a.S/M", config()), "the method is named by the path of its calls"),
        (builder().method("/a.S/", config()), "(name=/a.S/)"),
        (builder().method("//M", config()), "by the path of its calls"),
        (builder().method("/M", config()), "by the path of its calls"),
        (builder().method("", config()), "by the path of its calls"),
        (
            builder().service("/a.S", config()),
            "the service is named with its package and without slashes",
        ),
        (builder().service("", config()), "without slashes"),
        (builder().service("S", config()).service("S", config()), "the service is named before"),
        (builder().method("/S/M", config()).method("/S/M", config()), "the method is named before"),
        (builder().every_other(config()).every_other(config()), "is named before"),
        (builder().balancer("best"), "unknown balancer"),
    ] {
        let error = built.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
}
