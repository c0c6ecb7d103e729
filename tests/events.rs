//! The language of events and rewards: what each form means on samples in hand, and that a fault says where it is.

use diffx_event::{Expression, Part, Resolved};

const X: [f64; 6] = [3.0, -1.0, 4.0, -1.5, 5.0, -9.0];
/// Two rows of three.
const IMAGE: [f64; 6] = [1.0, 2.0, 3.0, 40.0, 50.0, 60.0];

fn parts() -> [Part<'static>; 2] {
    [Part { name: "x", dims: &[6] }, Part { name: "image", dims: &[2, 3] }]
}

fn resolve(text: &str) -> Result<Resolved, String> {
    let parsed = Expression::parse(text).map_err(|f| f.to_string())?;
    parsed.resolve(&parts()).map_err(|f| f.to_string())
}

fn value(text: &str) -> f64 {
    resolve(text).unwrap_or_else(|e| panic!("{text}: {e}")).value(&[&X, &IMAGE])
}

#[test]
fn numbers() {
    for (text, want) in [
        ("sum(x)", 0.5),
        ("sum(x[-2:])", -4.0),
        ("mean(x[:3])", 2.0),
        ("min(x) + max(x)", -4.0),
        ("first(x) - last(x)", 12.0),
        ("x[1]", -1.0),
        ("x[1:5][2]", -1.5), // a slice of a slice
        ("max(abs(x))", 9.0),
        ("sum(image[0])", 6.0),
        ("sum(image[:, -1])", 63.0),
        ("image[1, 0]", 40.0),
        ("last(first(image))", 3.0),
        ("sum(image[:, 1:])", 115.0),
        ("2 + 3 * 4 - 8 / 4", 12.0),
        ("-(2 - 3) * .5e1", 5.0),
        ("--2", 2.0),
        ("2 - 1 - 1", 0.0),
        ("8 / 4 / 2", 1.0),
        ("sqrt(square(3) + square(4))", 5.0),
        ("log(exp(2))", 2.0),
        ("sum(min(x, 0))", -11.5),
        ("sum(x * x) - sum(square(x))", 0.0),
        ("max(x) >= 5", 1.0),
        ("max(x) > 5", 0.0),
    ] {
        assert_eq!(value(text), want, "{text}");
    }
}

#[test]
fn conditions_and_their_margins() {
    for (text, holds, margin) in [
        ("sum(x[-2:]) <= -3", true, 1.0),
        ("max(x) >= 7", false, -2.0),
        ("max(x) < 7 and min(x) > -10", true, 1.0), // the smaller margin
        ("max(x) < 4 or min(x) > -10", true, 1.0),  // the larger
        ("not max(x) < 4", true, 1.0),
        ("not max(x) < 4 and x[0] == 3", true, 0.0), // not binds tighter than and
        ("x[0] != 3 or x[1] == -1", true, 0.0),
        ("1 <= x[0] < 3.5", true, 0.5),
        ("1 <= x[0] <= 2 <= x[4]", false, -1.0),
        ("(x[0] > 0 or x[0] < -8) and (x[5] > 0 or x[5] < -8)", true, 1.0),
    ] {
        let Ok(Resolved::Event(c)) = resolve(text) else { panic!("{text} is no event") };
        assert_eq!(c.holds(&[&X, &IMAGE]), holds, "{text}");
        assert_eq!(c.distance(&[&X, &IMAGE]), margin, "{text}");
    }
}

#[test]
fn no_event_holds_for_what_is_no_number() {
    let mut x = X;
    x[2] = f64::NAN;
    for (text, holds) in [
        ("max(x) >= 4", false),
        ("not max(x) >= 4", false), // the wrong variant, !(NaN >= 4), would hold
        ("x[0] > 0 or x[2] > 0", false),
        ("x[0] > 0", true),
        ("log(x[1]) < 0 or x[0] > 0", false),
    ] {
        let Ok(Resolved::Event(c)) = resolve(text) else { panic!("{text} is no event") };
        assert_eq!(c.holds(&[&x, &IMAGE]), holds, "{text}");
    }
    // a component that is missing
    let Ok(Resolved::Event(c)) = resolve("not sum(image) > 0") else { panic!() };
    assert!(!c.holds(&[&X]));
}

#[test]
fn faults_say_where_and_what() {
    for (text, want) in [
        ("", "column 1: found the end, want a number, a name or ("),
        ("max(x) >= ", "column 11: found the end, want a number, a name or ("),
        ("max(x >= 3", "column 11: found the end, want ) for the ( of column 4"),
        ("max(x) = 3", "column 8: found '=', want == to compare"),
        (
            "maximum(x) > 3",
            "column 1: no function maximum, want one of abs, exp, log, sqrt, square, sum, mean, min, max, first, last",
        ),
        ("max(z) > 3", "column 5: no component z, there are: x, image"),
        ("x > 3", "column 1: 6 numbers where one is wanted: say which, as in max(x)"),
        ("max(x) > image[0]", "column 15: 3 numbers where one is wanted: say which, as in max(x)"),
        ("x[6] > 0", "column 3: index 6 of an axis of 6"),
        ("x[-7] > 0", "column 3: index -7 of an axis of 6"),
        ("sum(x[4:2]) > 0", "column 7: range 4:2 of an axis of 6 is empty or outside"),
        ("sum(x[-10:]) > 0", "column 7: range -10: of an axis of 6 is empty or outside"),
        ("sum(x[9223372036854775808]) > 0", "column 7: found '9', want an index below 2^63"),
        ("x[0, 1] > 0", "column 2: 2 indices into an array of 1 axes"),
        ("sum(x[]) > 0", "column 7: found ']', want an index or a range, as in x[-10:]"),
        ("sum(x + image) > 0", "column 7: shapes [6] and [2, 3], want the same"),
        ("1 + (x[0] > 3)", "column 11: a condition stands where a number is wanted"),
        ("x[0] and x[1] > 2", "column 2: a number stands where a condition is wanted"),
        ("x[0] > 3 3", "column 10: found '3', want an operator or the end"),
        ("abs(x[0], 2) > 3", "column 1: abs takes one argument"),
        ("x[0] > 1e999", "column 8: found '1', want a finite number"),
        ("x[0] > é", "column 8: found 'é', want a number, a name or ("),
        ("é", "column 1: found 'é', want a number, a name or ("),
        ("and > 1", "column 1: found 'a', want a number, a name or ("),
    ] {
        assert_eq!(resolve(text).expect_err(text), want, "{text}");
    }
    let event = Expression::parse("sum(x)").unwrap().event(&parts());
    let want = "column 1: is a number, want an event, as in max(x) >= 40";
    assert_eq!(event.unwrap_err().to_string(), want);
}

#[test]
fn a_text_costs_what_its_length_allows() {
    let deep = |n: usize| format!("{}x[0]{} > 0", "(".repeat(n), ")".repeat(n));
    assert!(resolve(&deep(100)).is_ok());
    assert_eq!(resolve(&deep(200)).unwrap_err(), "column 129: more than 128 levels deep");
    assert!(resolve(&format!("{} > 0", vec!["x[0]"; 100].join(" + "))).is_ok());
    assert!(resolve(&format!("{} > 0", vec!["x[0]"; 200].join(" + "))).is_err());
    assert!(resolve(&format!("{}x[0] > 0", "not ".repeat(200))).is_err());
    assert!(resolve(&format!("{}x[0] > 0", "-".repeat(200))).is_err());
    let long = format!("x[0] > {}", "1".repeat(5000));
    assert_eq!(resolve(&long).unwrap_err(), "column 1: 5007 bytes, want at most 4096");
    // a middle stands in two comparisons: middles inside middles would double with every level
    let doubling = format!("{}x[0]{} > 0", "1 < (".repeat(100), ") < 2".repeat(100));
    assert!(
        resolve(&doubling).unwrap_err().ends_with("a condition stands where a number is wanted")
    );
}
