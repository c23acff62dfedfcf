//! Names, options, and what is wrong with them.

use fleetward_core::balancing::{PickContext, ReadySet};

use super::*;

#[test]
fn every_name_makes_a_balancer() {
    for name in names() {
        let needed = match name {
            "split" => "?version=v2&share=0.05",
            "zone_aware" => "?zone=eu-1a",
            "maglev" | "ring_hash" => "?header=user",
            _ => "",
        };
        let made = by_name(&format!("{name}{needed}"));
        assert!(made.is_ok(), "{name}: {made:?}");
    }
}

#[test]
fn options_reach_the_balancer_or_are_refused() {
    let made = |spec| format!("{:?}", by_name(spec).unwrap());
    assert!(made("ring_hash?header=user&min=7&max=9").contains("min: 7, max: 9"));
    assert!(made("ring_hash?header=user&min=9000").contains("min: 9000, max: 9000"));
    assert!(made("ring_hash?header=user&max=9").contains("min: 9, max: 9"));
    assert!(made("ring_hash?header=user&load=1.25").contains("1250000"));
    assert!(made("maglev?header=user&table=503&load=2").contains("size: 503"));
    assert!(made("maglev?header=user").contains("\"user\""));
    for (spec, part) in [
        ("ring_hash", "give header="),
        ("maglev?header=", "give header="),
        ("ring_hash?header=user&min=0", "min"),
        ("ring_hash?header=user&min=5&max=4", "max"),
        ("ring_hash?header=user&max=8388609", "8388608"),
        ("ring_hash?header=user&load=0.5", "load"),
        ("ring_hash?header=user&load=NaN", "load"),
        ("ring_hash?header=user&table=503", "table"),
        ("maglev?header=user&table=65536", "prime"),
        ("random?per_thread", "per_thread"),
        ("zone_aware?zone=", "zone"),
        ("priority?key=", "key"),
        ("split?share=0.5&version=", "version"),
        ("split?share=0.5&key=&value=x", "key"),
    ] {
        let error = by_name(spec).unwrap_err().to_string();
        assert!(error.contains(part), "{spec}: {error}");
    }
}

#[test]
fn an_unknown_option_is_an_error_that_names_it() {
    let error = by_name("random?sed=1").unwrap_err().to_string();
    assert!(error.contains("sed") && error.contains("random"), "{error}");
    let error = Balancers::built_in()
        .by_name_in_url("split?share=1&version=v&balancer=random?sed=1")
        .unwrap_err();
    assert_eq!(error.context("option"), Some("no. 1 of 1 (3 characters, not shown)"));
}

#[test]
fn an_unknown_option_is_named_before_one_that_is_missing_or_wrong() {
    for spec in [
        "ring_hash?heder=user",
        "ring_hash?min=0&heder=user",
        "maglev?heder=user",
        "split?heder=0.5",
        "zone_aware?heder=eu-1a",
        "priority?overprovisioning=1&heder=x",
        "slow_start?least=7&heder=x",
        "zone_aware?zone=a&balancer=ring_hash?heder=user",
    ] {
        let error = by_name(spec).unwrap_err();
        assert_eq!(error.context("option"), Some("heder"), "{spec}: {error}");
        assert!(error.message().contains("known options are: "), "{spec}: {error}");
    }
    let error = by_name("split?share=0.5").unwrap_err().to_string();
    assert!(error.contains("is needed"), "{error}");
}

#[derive(Debug)]
struct Own(u8);

impl Balancer for Own {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(usize::from(self.0))
    }
}

fn with_own(name: &str) -> Balancers {
    Balancers::new()
        .with_balancer(name, |options| Ok(Own(options.take_parsed("number")?.unwrap_or_default())))
}

#[test]
fn a_balancer_of_one_s_own_is_known_where_its_table_is() {
    let balancers = with_own("own");
    let made = |spec| format!("{:?}", balancers.by_name(spec).unwrap());
    assert_eq!(made("own?number=7"), "Own(7)");
    assert!(made("slow_start?balancer=own?number=7").contains("Own(7)"));
    assert!(made("p2c").contains("P2c"));
    assert!(balancers.names().any(|name| name == "own") && by_name("own").is_err());
    for (spec, part) in [
        ("own?numbr=7", "(option=numbr, balancer=own)"),
        ("own?number=x", "(option=number, balancer=own)"),
        ("owm", "known ones are: own, least_request"),
        ("slow_start?balancer=own?number=x", "(option=number, balancer=own)"),
    ] {
        let error = balancers.by_name(spec).unwrap_err().to_string();
        assert!(error.contains(part), "{spec}: {error}");
    }
    let named = balancers.named("slow_start?balancer=own?number=7").unwrap();
    assert!(format!("{:?}", named.make()).contains("Own(7)"));
    assert!(balancers.named("own?x=1").is_err());
}

#[test]
fn one_s_own_wins_over_a_built_in_one_of_that_name() {
    let balancers = with_own("p2c");
    assert_eq!(format!("{:?}", balancers.by_name("p2c").unwrap()), "Own(0)");
    assert_eq!(balancers.names().filter(|name| *name == "p2c").count(), 1);
}

#[test]
fn what_is_wrong_inside_is_an_error_outside() {
    for spec in ["slow_start?balancer=best", "priority?balancer=p2c?x=1", "split?share=2"] {
        assert!(by_name(spec).is_err(), "{spec}");
    }
    let inside = by_name("slow_start?balancer=priority?balancer=best").unwrap_err().to_string();
    assert!(inside.contains("(balancer=best)"), "{inside}");
    let nested = |levels| format!("{}p2c", "slow_start?balancer=".repeat(levels));
    assert!(by_name(&nested(7)).is_ok());
    for levels in [8, 100_000] {
        let error = by_name(&nested(levels)).unwrap_err().to_string();
        assert!(error.contains("too many") && error.len() < 2000, "{error}");
    }
}

#[test]
fn what_is_chosen_by_parts_is_what_is_chosen_by_a_text() {
    let balancers = with_own("own");
    let inner = balancers.choose("own", [("number", "7")], None).unwrap();
    let chosen = balancers.choose("slow_start", [("window", "60s")], Some(inner.clone())).unwrap();
    assert_eq!(chosen, balancers.named("slow_start?window=60s&balancer=own?number%3D7").unwrap());
    assert!(format!("{:?}", chosen.make()).contains("Own(7)"));
    assert_eq!(balancers.named(chosen.as_str()).unwrap(), chosen, "its text chooses the same");
    // No letter of a value is read as anything else.
    let header = balancers.choose("ring_hash", [("header", "a&min=7?b")], None).unwrap();
    assert!(format!("{:?}", header.make()).contains("\"a&min=7?b\""), "{:?}", header.make());
    assert_eq!(balancers.named(header.as_str()).unwrap(), header);
    for (name, options, inner, part) in [
        ("p2c", vec![], Some(inner.clone()), "does not hold another one"),
        ("slow_start", vec![("balancer", "p2c")], Some(inner.clone()), "unknown option"),
        ("slow_start", vec![("balancer", "best")], None, "unknown balancer"),
        ("best", vec![], None, "known ones are: own"),
        ("maglev", vec![("heder", "x")], None, "(option=heder, balancer=maglev)"),
    ] {
        let error = balancers.choose(name, options, inner).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let deeper = |inner| balancers.choose("slow_start", NOTHING, Some(inner));
    let deepest = (0..7).try_fold(inner, |inner, _| deeper(inner)).unwrap();
    assert!(deeper(deepest).unwrap_err().to_string().contains("too many"));
}

const NOTHING: [(&str, &str); 0] = [];
