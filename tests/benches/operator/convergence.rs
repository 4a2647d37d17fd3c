//! From applying 200 connections to the last of their children existing, against a bare client that writes the same
//! objects.

use std::time::Instant;

use crate::{
    baseline::{objects, taken_from, write},
    plane::Plane,
};

const CONNECTIONS: usize = 200;
/// Connection, ServiceAccount, ConfigMap, three Secrets, volume claim, Service, NetworkPolicy and StatefulSet.
const OBJECTS: usize = 10;
const ROUNDS: usize = 5;

pub async fn run() {
    let plane = Plane::start().await;
    let names: Vec<_> = (0..CONNECTIONS).map(|number| format!("c{number}")).collect();
    let (mut operators, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let namespace = format!("operator-{round}");
        plane.namespace(&namespace);
        let operator = plane.operator(&namespace).await;
        let began = Instant::now();
        plane.connect(&namespace, &names).await;
        plane.built(&namespace, CONNECTIONS + 1).await;
        let converged = began.elapsed().as_secs_f64();
        drop(operator);

        let sets = taken_from(&plane.client, &namespace).await;
        assert_eq!(objects(&sets), CONNECTIONS * OBJECTS, "all children of all connections");
        let namespace = format!("bare-{round}");
        plane.namespace(&namespace);
        let began = Instant::now();
        write(&plane.client, &namespace, &sets).await;
        plane.built(&namespace, CONNECTIONS).await;
        let written = began.elapsed().as_secs_f64();
        operators.push(converged);
        bare.push(written);
        ratios.push(converged / written);
    }
    println!("{CONNECTIONS} connections, {} objects, {ROUNDS} rounds", CONNECTIONS * OBJECTS);
    println!("| seconds | min | median | max |\n|---|---|---|---|");
    show("operator", &mut operators);
    show("bare client", &mut bare);
    let median = show("ratio", &mut ratios);
    println!("operator_convergence_ratio {median:.2}");
}

/// Prints a row; gives the median.
fn show(name: &str, values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    println!("| {name} | {:.2} | {median:.2} | {:.2} |", values[0], values[values.len() - 1]);
    median
}
