//! Makes cargo look at the web page's bundle: which files there are is decided while this crate is compiled.

fn main() {
    println!("cargo::rerun-if-changed=../../web/dist");
}
