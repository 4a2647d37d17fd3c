//! The receiver of eBay's notices, which is off by default.

use marketrelay_api::notices::{APPLICATION, CONFIG, IDENTITY, NAME as NOTICES, NoticesConfig, TLS};
use serde_yaml::Value;
use xtask::paths;

use super::{SYSTEM, helm, of_kind, render, text};

const ENDPOINT: &str = "https://notices.acme.example/ebay/account-deletion";

/// With the receiver, and these settings more.
fn on(settings: &str) -> Vec<Value> {
    let set = format!("ebayNotices.enabled=true,ebayNotices.endpoint={ENDPOINT},{settings}");
    render(&["--set", &set])
}

fn named<'a>(objects: &'a [Value], kind: &str) -> Option<&'a Value> {
    of_kind(objects, kind).into_iter().find(|object| text(object, &["metadata", "name"]) == NOTICES)
}

fn its<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    named(objects, kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn pod(objects: &[Value]) -> &Value {
    &its(objects, "Deployment")["spec"]["template"]["spec"]
}

#[test]
fn it_is_off_by_default_and_adds_nothing_to_the_operators_rights() {
    let (off, on) = (render(&[]), on("replicas=2"));
    assert!(off.iter().all(|object| text(object, &["metadata", "name"]) != NOTICES));
    for kind in ["ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"] {
        assert_eq!(of_kind(&off, kind), of_kind(&on, kind), "{kind}");
    }
}

#[test]
fn its_pod_has_no_token_and_no_more_than_it_needs() {
    let objects = on("replicas=2");
    let pod = pod(&objects);
    assert_eq!(pod["automountServiceAccountToken"], Value::Bool(false));
    assert_eq!(text(pod, &["serviceAccountName"]), NOTICES);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::Bool(true));
    assert_eq!(text(pod, &["securityContext", "seccompProfile", "type"]), "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], Value::Bool(false));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], Value::Bool(true));
    assert_eq!(text(&container["securityContext"]["capabilities"]["drop"][0], &[]), "ALL");
    assert!(container["resources"]["limits"]["memory"].is_string());
    let volumes = pod["volumes"].as_sequence().expect("volumes");
    let secrets: Vec<_> = volumes.iter().map(|volume| text(volume, &["secret", "secretName"])).collect();
    assert_eq!(secrets, ["", "ebay-application", NOTICES, NOTICES], "two Secrets are mounted, no others");
    let mounts = container["volumeMounts"].as_sequence().expect("mounts");
    let mounted: Vec<_> = mounts.iter().map(|mount| text(mount, &["mountPath"])).collect();
    let folder = CONFIG.rsplit_once('/').expect("a folder").0;
    assert_eq!(mounted, [folder, APPLICATION, IDENTITY, TLS], "where the program looks");
    let labels = &its(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_ne!(text(labels, &["app.kubernetes.io/name"]), "marketrelay", "relays let in pods of that name");
}

#[test]
fn every_setting_reaches_it() {
    let samples = paths::checkout().join("manifests/samples");
    let values = ["values-demo.yaml", "values-ebay-notices.yaml"];
    let values = values.map(|name| format!("--values={}", samples.join(name).display()));
    let objects = render(&[&values[0], &values[1]]);
    let file = text(its(&objects, "ConfigMap"), &["data", "notices.yaml"]);
    let config = NoticesConfig::parse(file).expect("a configuration that the receiver reads");
    assert_eq!(config.operator.as_str(), format!("https://marketrelay-operator.{SYSTEM}.svc:9443/"));
    assert_eq!(config.endpoint, format!("https://{NOTICES}.{SYSTEM}.svc/ebay/account-deletion"));
    assert_eq!((config.endpoints.is_some(), config.egress.allowed_networks.len()), (true, 3));
    assert_eq!(text(&pod(&objects)["containers"][0], &["image"]), "marketrelay.dev/notices:dev");
    let minimal = on("replicas=2");
    let file = text(its(&minimal, "ConfigMap"), &["data", "notices.yaml"]);
    let config = NoticesConfig::parse(file).expect("a configuration that the receiver reads");
    assert_eq!((config.endpoint.as_str(), config.endpoints), (ENDPOINT, None));
}

#[test]
fn a_certificate_of_ones_own_is_shown_and_the_operator_still_knows_it() {
    let objects = on("ebayNotices.tls.secretName=public,ebayNotices.service.type=LoadBalancer");
    let volumes = pod(&objects)["volumes"].as_sequence().expect("volumes");
    let secret = |name: &str| {
        let volume = volumes.iter().find(|volume| text(volume, &["name"]) == name).expect(name);
        text(volume, &["secret", "secretName"])
    };
    assert_eq!((secret("tls"), secret("identity")), ("public", NOTICES));
    let service = its(&objects, "Service");
    assert_eq!(text(service, &["spec", "type"]), "LoadBalancer");
    let ports = service["spec"]["ports"].as_sequence().expect("ports");
    assert_eq!((ports.len(), ports[0]["port"].as_u64()), (1, Some(443)), "no plaintext port");
}

#[test]
fn an_ingress_leads_to_the_endpoint_alone() {
    assert!(named(&on("replicas=2"), "Ingress").is_none());
    let objects = on("ebayNotices.ingress.enabled=true,ebayNotices.ingress.tlsSecretName=public");
    let ingress = its(&objects, "Ingress");
    let rule = &ingress["spec"]["rules"][0];
    assert_eq!(text(rule, &["host"]), "notices.acme.example");
    let path = &rule["http"]["paths"][0];
    let exact = (text(path, &["path"]), text(path, &["pathType"]));
    assert_eq!(exact, ("/ebay/account-deletion", "Exact"));
    assert_eq!(text(ingress, &["spec", "tls", "secretName"]), "");
    assert_eq!(text(&ingress["spec"]["tls"][0], &["secretName"]), "public");
}

#[test]
fn policies_let_it_reach_the_operator_and_ebay() {
    let set = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b";
    let objects = on(set);
    let name =
        &its(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"];
    let policies = of_kind(&objects, "NetworkPolicy");
    assert_eq!(policies.len(), 2);
    let operators = policies.iter().find(|policy| text(policy, &["metadata", "name"]) != NOTICES);
    let rules = operators.expect("the operator's")["spec"]["ingress"].as_sequence().expect("rules");
    let from = |rule: &Value| rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"].clone();
    assert_eq!((rules.len(), &from(&rules[1])), (2, name), "also where metrics are for some alone");
    let egress = its(&objects, "NetworkPolicy")["spec"]["egress"].as_sequence().expect("rules");
    let port = |rule: &Value| rule["ports"][0]["port"].as_u64();
    assert_eq!(egress.iter().map(port).collect::<Vec<_>>(), [Some(53), Some(9443), Some(443)]);
    assert_eq!(
        text(&egress[1]["to"][0]["podSelector"]["matchLabels"], &["app.kubernetes.io/component"]),
        "operator"
    );
    let elsewhere = on("endpoints.ebay.api=https://a.example:8443,endpoints.ebay.token=https://b.example/t");
    let egress = its(&elsewhere, "NetworkPolicy")["spec"]["egress"].as_sequence().expect("rules").clone();
    assert_eq!(
        (egress[2]["ports"][0]["port"].as_u64(), egress[2]["ports"][1]["port"].as_u64()),
        (Some(443), Some(8443))
    );
}

#[test]
fn bad_settings_are_refused_by_their_name() {
    let endpoint = format!("ebayNotices.endpoint={ENDPOINT}");
    for (value, name) in [
        ("ebayNotices.enabled=true", "/ebayNotices/endpoint"),
        ("ebayNotices.endpoint=http://a.example/ebay", "/ebayNotices/endpoint"),
        ("ebayNotices.endpoint=https://a.example/?a=b", "/ebayNotices/endpoint"),
        ("ebayNotices.enabled=true,ebayNotices.endpoint=https://a.example/livez", "/ebayNotices"),
        ("ebayNotices.applicationSecretName=", "/ebayNotices/applicationSecretName"),
        ("ebayNotices.replicas=0", "/ebayNotices/replicas"),
        ("ebayNotices.service.type=None", "/ebayNotices/service/type"),
        ("ebayNotices.ingres.enabled=true", "'ingres'"),
        ("ebayNotices.resources.limits.memory=null", "'memory'"),
    ] {
        let message = helm(&["--set", value]).err().unwrap_or_else(|| panic!("{value} is accepted"));
        assert!(message.contains(name), "{value}: {message}");
    }
    assert!(helm(&["--set", &endpoint]).is_ok(), "an endpoint that waits to be switched on");
}
