//! Installing, upgrading and removing the operator.

use crate::{
    cluster::{SYSTEM, alone, kube},
    tenant::with_tenant,
};
use xtask::run::output;

#[tokio::test]
async fn removing_and_reinstalling_the_operator_leaves_connections_and_relays_as_they_are() {
    let _alone = alone().await;
    with_tenant("reinstall", async |tenant| {
        tenant.connect("bol", 5).await;
        tenant.all_arrived("bol").await;
        let process = tenant.relay_process("bol").await;
        let kube = kube();
        let values =
            output(&mut kube.helm(&["get", "values", "marketrelay", "--namespace", SYSTEM, "--output=json"]));
        let values = values.expect("the values");
        output(&mut kube.helm(&["uninstall", "marketrelay", "--namespace", SYSTEM, "--wait"]))
            .expect("uninstalled");
        tenant.get("bol").await.expect("the connection is still there");
        tenant.order("bol", 3).await;
        tenant.all_arrived("bol").await;
        let file = xtask::paths::target().join("e2e-values.json");
        xtask::run::write(&file, values).expect("written");
        let chart = xtask::paths::checkout().join("charts/marketrelay").display().to_string();
        let (values, space) = (file.display().to_string(), ["--namespace", SYSTEM, "--wait"]);
        let words = ["install", "marketrelay", &chart, "--values", &values, "--timeout=180s"];
        output(&mut kube.helm(&[&words[..], &space].concat())).expect("installed");
        tenant.ready("bol").await;
        assert_eq!(tenant.relay_process("bol").await, process, "the relay went on undisturbed");
    })
    .await;
}
