//! One line a figure, for `benches/run` to collect.

/// Prints `figure<TAB>NAME<TAB>UNIT<TAB>VALUE`.
pub fn figure(name: &str, unit: &str, value: f64) {
    println!("figure\t{name}\t{unit}\t{value}");
}
