//! What the operator costs, on a control plane alone: `convergence` and `memory`; and how late its `keys` die. Run by
//! `cargo xtask bench`, which builds the program first.

mod baseline;
mod convergence;
#[path = "../../installed.rs"]
mod installed;
mod keys;
mod memory;
mod plane;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if wanted("convergence") {
        convergence::run().await;
    }
    if wanted("memory") {
        memory::run().await;
    }
    if wanted("keys") {
        keys::run().await;
    }
}
