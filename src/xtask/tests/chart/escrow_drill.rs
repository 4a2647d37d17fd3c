//! The drill with the escrowed keys, which is off by default.

use serde_yaml::Value;

use super::{SYSTEM, config, helm, of_kind, render, text};

const NAME: &str = "marketrelay-escrow-drill";
const NEEDED: &str = "backup.escrow.drill.enabled=true,backup.escrow.drill.identitySecret.name=escrow-identity,\
                      backup.escrow.drill.credentialsSecret.name=off-site-reader,backup.offSite.s3.bucket=acme-relays";

/// With the drill, and these settings more.
fn on(settings: &str) -> Vec<Value> {
    render(&["--set", &format!("{NEEDED},{settings}")])
}

fn its<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    of_kind(objects, kind).into_iter().find(|object| text(object, &["metadata", "name"]) == NAME)
}

fn pod(objects: &[Value]) -> &Value {
    &its(objects, "CronJob").expect("a CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
}

fn arguments(objects: &[Value]) -> Vec<&str> {
    let arguments = pod(objects)["containers"][0]["args"].as_sequence().expect("arguments");
    arguments.iter().map(|argument| text(argument, &[])).collect()
}

#[test]
fn it_is_off_by_default_and_adds_nothing_to_the_operators_rights_or_pods() {
    let (off, on) = (on("backup.escrow.drill.enabled=false"), on(""));
    assert!(
        [&off, &render(&[])].into_iter().flatten().all(|object| text(object, &["metadata", "name"]) != NAME)
    );
    for kind in ["ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "Deployment", "Service"] {
        assert_eq!(of_kind(&off, kind), of_kind(&on, kind), "{kind}");
    }
    assert!(on.iter().any(|object| text(object, &["metadata", "name"]) == NAME));
}

#[test]
fn its_pod_is_restricted_has_no_token_and_the_identity_of_the_named_entry() {
    let objects = on("backup.escrow.drill.identitySecret.key=age.txt");
    let pod = pod(&objects);
    assert_eq!(pod["automountServiceAccountToken"], Value::Bool(false));
    assert_eq!(text(pod, &["serviceAccountName"]), NAME);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::Bool(true));
    assert_eq!(text(pod, &["securityContext", "seccompProfile", "type"]), "RuntimeDefault");
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], Value::Bool(false));
    assert_eq!(security["readOnlyRootFilesystem"], Value::Bool(true));
    assert_eq!(text(&security["capabilities"]["drop"][0], &[]), "ALL");
    assert!(container["resources"]["limits"]["memory"].is_string());
    let secret = &pod["volumes"][0]["secret"];
    assert_eq!(text(secret, &["secretName"]), "escrow-identity");
    assert_eq!(text(&secret["items"][0], &["key"]), "age.txt");
    let scratch =
        pod["volumes"].as_sequence().expect("volumes").iter().find(|one| !one["emptyDir"].is_null());
    assert_eq!(text(scratch.expect("a place for the database"), &["name"]), "scratch");
    for (at, entry) in ["accessKeyId", "secretAccessKey", "sessionToken"].into_iter().enumerate() {
        let from = &container["env"][at]["valueFrom"]["secretKeyRef"];
        assert_eq!((text(from, &["name"]), text(from, &["key"])), ("off-site-reader", entry));
        assert_eq!(from["optional"].as_bool().unwrap_or_default(), entry == "sessionToken");
    }
    assert_eq!(text(its(&objects, "CronJob").expect("a CronJob"), &["metadata", "namespace"]), SYSTEM);
}

#[test]
fn it_reads_the_off_site_store_as_the_connections_do() {
    let objects = on("");
    let fixed = [
        "recover",
        "--check",
        "--identity=/etc/marketrelay/escrow-identity/identity",
        "--bucket=acme-relays",
    ];
    assert_eq!(arguments(&objects), fixed, "Amazon S3");
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&authority, pem).expect("a file");
    let set = format!(
        "{NEEDED},backup.offSite.s3.endpoint=https://s3.far.example:9000,backup.offSite.s3.region=eu-west-3,\
         backup.offSite.s3.prefix=a/b"
    );
    let file = format!("egress.extraCaCertificates={}", authority.display());
    let objects = render(&["--set", &set, "--set-file", &file]);
    let more = [
        "--endpoint=https://s3.far.example:9000",
        "--region=eu-west-3",
        "--prefix=a/b",
        "--path-style",
        "--ca=/etc/marketrelay/authorities/ca.pem",
    ];
    assert_eq!(arguments(&objects), [&fixed[..], &more].concat());
    assert_eq!(
        text(its(&objects, "ConfigMap").expect("authorities"), &["data", "ca.pem"]).trim(),
        pem.trim()
    );
    let egress = serde_yaml::to_string(&its(&objects, "NetworkPolicy").expect("a policy")["spec"]["egress"]);
    let egress = egress.expect("YAML");
    assert!(["port: 53", "port: 443", "port: 9000"].iter().all(|port| egress.contains(port)), "{egress}");
    let host = render(&["--set", &format!("{set},backup.offSite.s3.pathStyle=false")]);
    assert!(!arguments(&host).contains(&"--path-style"));
}

#[test]
fn who_can_open_escrowed_keys_reaches_the_operator() {
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let set = format!("backup.escrow.recipients={{{recipient}}}");
    let backup = config(&render(&["--set", &set])).backup.expect("backups");
    assert_eq!(backup.escrow.recipients, [recipient]);
}

#[test]
fn what_it_can_not_do_without_is_asked_for_by_name() {
    for (left_out, sentence) in [
        ("backup.escrow.drill.identitySecret.name=", "backup.escrow.drill.identitySecret.name is empty"),
        (
            "backup.escrow.drill.credentialsSecret.name=",
            "backup.escrow.drill.credentialsSecret.name is empty",
        ),
        ("backup.offSite.s3.bucket=", "backup.offSite.s3.bucket is empty"),
    ] {
        let refused = helm(&["--set", &format!("{NEEDED},{left_out}")]).err();
        let message = refused.unwrap_or_else(|| panic!("{left_out} is accepted"));
        assert!(message.contains(sentence), "{left_out}: {message}");
    }
}
