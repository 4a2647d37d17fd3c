//! Relative relocations in their packed form (glibc 2.36 or newer): a megabyte less that every relay keeps in memory.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
