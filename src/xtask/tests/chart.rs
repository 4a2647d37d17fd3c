//! The chart, as helm renders it: what it installs by default, what it refuses, and what it never grants.

#[path = "chart/ebay_notices.rs"]
mod ebay_notices;
#[path = "chart/escrow_drill.rs"]
mod escrow_drill;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionSpec;
use marketrelay_api::{OperatorConfig, backup::Site};
use serde_yaml::Value;
use xtask::{cluster, paths};

const SYSTEM: &str = "marketrelay-system";

/// helm template, with these words more.
fn helm(words: &[&str]) -> Result<String, String> {
    let helm = cluster::helm().expect("helm");
    let chart = paths::checkout().join("charts/marketrelay");
    let mut template = Command::new(helm);
    template.args(["template", "marketrelay", "--namespace", SYSTEM, "--kube-version", "1.30.0"]);
    let out = template.arg(chart).args(words).output().expect("helm runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let parse = |document| -> Value { serde::Deserialize::deserialize(document).expect("YAML") };
    documents.map(parse).filter(|object| !object.is_null()).collect()
}

fn render(words: &[&str]) -> Vec<Value> {
    objects(&helm(words).expect("values that work"))
}

fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    path.iter().fold(object, |value, key| &value[*key]).as_str().unwrap_or_default()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| text(object, &["kind"]) == kind).collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn config(objects: &[Value]) -> OperatorConfig {
    let file = text(only(objects, "ConfigMap"), &["data", "config.yaml"]);
    OperatorConfig::parse(file).expect("a configuration that the operator reads")
}

#[test]
fn default_values_are_the_operators_own_defaults() {
    let installed = config(&render(&[]));
    let [relay, backup] =
        ["relay", "backup"].map(|name| format!("marketrelay.dev/{name}:{}", env!("CARGO_PKG_VERSION")));
    let minimal = format!("{{relay: {{image: '{relay}'}}, backup: {{image: '{backup}'}}}}");
    assert_eq!(installed, OperatorConfig::parse(&minimal).expect("complete"));
}

#[test]
fn every_setting_of_the_demo_reaches_the_operator() {
    let samples = paths::checkout().join("manifests/samples");
    let values = samples.join("values-demo.yaml").display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&authority, pem).expect("a file");
    let file = format!("egress.extraCaCertificates={}", authority.display());
    let set = "relay.image.repository=registry.example/relay,storage.defaultStorageClassName=fast";
    let objects = render(&["--values", &values, "--set-file", &file, "--set", set]);
    let config = config(&objects);
    assert_eq!(config.relay.image, "registry.example/relay:dev");
    assert_eq!(config.storage.default_storage_class_name.as_deref(), Some("fast"));
    assert_eq!(config.egress.extra_ca_certificates.trim(), pem.trim());
    assert!(config.allow_short_durations);
    assert_eq!(config.retention.shortening_delay.to_string(), "30s");
    let endpoints = [&config.endpoints.amazon, &config.endpoints.ebay, &config.endpoints.bol];
    assert!(endpoints.iter().all(|endpoints| endpoints.is_some()));
    let checksum = |objects: &[Value]| {
        let path = ["spec", "template", "metadata", "annotations", "checksum/config"];
        text(only(objects, "Deployment"), &path).to_owned()
    };
    assert_ne!(checksum(&objects), checksum(&render(&[])), "pods restart with a new configuration");
}

#[test]
fn what_is_said_of_the_stores_of_backups_reaches_the_operator() {
    let set = "backup.onSite.s3.endpoint=https://s3.site.example:9000,backup.onSite.s3.bucket=near,backup.onSite.s3.pathStyle=false,\
               backup.offSite.s3.region=eu-central-1,backup.offSite.s3.prefix=a/b,backup.concurrentRuns=9,backup.deadlineSeconds=600,\
               backup.resources.limits.memory=96Mi";
    let backup = config(&render(&["--set", set])).backup.expect("backups");
    let (on, off) = (backup.site(Site::OnSite), backup.site(Site::OffSite));
    assert_eq!(
        on.endpoint.as_ref().map(ToString::to_string).as_deref(),
        Some("https://s3.site.example:9000/")
    );
    assert_eq!((on.bucket.as_deref(), on.path_style), (Some("near"), Some(false)));
    assert_eq!((off.region.as_deref(), off.prefix.as_deref()), (Some("eu-central-1"), Some("a/b")));
    assert_eq!((&off.endpoint, &off.bucket, off.path_style), (&None, &None, None));
    assert_eq!((backup.concurrent_runs, backup.deadline_seconds), (9, 600));
    assert_eq!(backup.resources.limits["memory"].0, "96Mi");
}

#[test]
fn bad_values_are_refused_by_their_name() {
    for (value, name) in [
        ("replicas=0", "/replicas"),
        ("replicas=two", "/replicas"),
        ("replica=2", "'replica'"),
        ("image.tag=a/b", "/image/tag"),
        ("image.digest=sha256:1", "/image/digest"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("relay.image.repository=", "/relay/image/repository"),
        ("relay.resources.limits.memory=null", "'memory'"),
        ("relay.resources.limits.memory=lots", "/relay/resources/limits/memory"),
        ("logLevel=loud", "/logLevel"),
        ("watchNamespaces={Acme}", "/watchNamespaces/0"),
        ("egress.allowedNetworks={10.0.0}", "/egress/allowedNetworks/0"),
        ("retention.shorteningDelay=a day", "/retention/shorteningDelay"),
        ("retention.shorteningDelay=0h", "/retention/shorteningDelay"),
        ("retention=null", "'retention'"),
        ("egress.extraCaCertificates=abc", "/egress/extraCaCertificates"),
        ("endpoints.bol.api=https://x", "'token'"),
        ("endpoints.bol.api=http://x,endpoints.bol.token=https://x/t", "/endpoints/bol/api"),
        ("endpoints.etsy.api=https://x", "'etsy'"),
        ("rollout.maxUpdating=0", "/rollout/maxUpdating"),
        ("rollout=null", "'rollout'"),
        ("closure.breaker=-1", "/closure/breaker"),
        ("backup.image.repository=", "/backup/image/repository"),
        ("backup.concurrentRuns=0", "/backup/concurrentRuns"),
        ("backup.deadlineSeconds=59", "/backup/deadlineSeconds"),
        ("backup.resources.limits.memory=null", "'memory'"),
        ("backup.escrow.recipients={AGE-SECRET-KEY-1QQ}", "/backup/escrow/recipients/0"),
        ("backup.escrow.drill.schedule=weekly", "/backup/escrow/drill/schedule"),
        ("backup.escrow.drill.identity=abc", "'identity'"),
        ("backup.onSite.s3.endpoint=http://s3.site.example", "/backup/onSite/s3/endpoint"),
        ("backup.offSite.s3.bucket=A", "/backup/offSite/s3/bucket"),
        ("backup.offSite.s3.prefix=/a", "/backup/offSite/s3/prefix"),
        ("backup.offSite.s3.buket=abc", "'buket'"),
        ("controller.concurrency=null", "'concurrency'"),
        ("controller.concurrency=65", "/controller/concurrency"),
        ("controller.statusIntervalSeconds=1", "/controller/statusIntervalSeconds"),
        ("allowShortDurations=maybe", "/allowShortDurations"),
        ("networkPolicy.apiServerPorts={0}", "/networkPolicy/apiServerPorts/0"),
        ("serviceMonitor.interval=often", "/serviceMonitor/interval"),
        ("podLabels.a=not a label", "/podLabels/a"),
        (r"podLabels.app\.kubernetes\.io/name=mine", "'app.kubernetes.io/name'"),
    ] {
        let refused = helm(&["--set", value]).err();
        let message = refused.unwrap_or_else(|| panic!("{value} is accepted"));
        assert!(message.contains("values don't meet the specifications"), "{value}: {message}");
        assert!(message.contains(name), "{value}: {message}");
    }
}

#[test]
fn values_that_no_schema_can_explain_are_refused_with_a_sentence() {
    for (value, sentence) in [
        (
            "egress.allowedNetworks={10.1.2.3}",
            "egress.allowedNetworks: 10.1.2.3 has no mask: write 10.1.2.3/32 for this one address, or a network such as",
        ),
        ("egress.allowedNetworks={fd00::1}", "fd00::1 has no mask: write fd00::1/128"),
        ("retention.shorteningDelay=59m", "retention.shorteningDelay is 59m: below 1h"),
        ("retention.shorteningDelay=3599s", "write 1h or more"),
    ] {
        let refused = helm(&["--set", value]).err();
        let message = refused.unwrap_or_else(|| panic!("{value} is accepted"));
        assert!(message.contains(sentence), "{value}: {message}");
    }
    for delay in ["1h", "1d", "60m", "100m", "3600s", "4000s", "10000s"] {
        let installed = config(&render(&["--set", &format!("retention.shorteningDelay={delay}")]));
        assert_eq!(installed.retention.shortening_delay.to_string(), delay);
    }
    let quick = render(&["--set", "retention.shorteningDelay=30s,allowShortDurations=true"]);
    assert_eq!(config(&quick).retention.shortening_delay.as_secs(), 30);
}

#[test]
fn a_cluster_without_admission_policies_is_refused() {
    let message = helm(&["--kube-version", "1.29.9"]).expect_err("too old");
    assert!(message.contains(">=1.30.0"), "{message}");
}

#[test]
fn switches_take_away_what_they_name() {
    for (value, kinds) in [
        ("crds.install", &["CustomResourceDefinition"][..]),
        ("keyProtection.enabled", &["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]),
        ("podDisruptionBudget.enabled", &["PodDisruptionBudget"]),
        ("networkPolicy.enabled", &["NetworkPolicy"]),
    ] {
        let (on, off) = (render(&[]), render(&["--set", &format!("{value}=false")]));
        for kind in kinds {
            assert!(!of_kind(&on, kind).is_empty(), "{kind} is on by default");
            assert!(of_kind(&off, kind).is_empty(), "{value}");
        }
    }
    assert!(of_kind(&render(&[]), "ServiceMonitor").is_empty());
    let monitored =
        render(&["--set", "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus"]);
    let monitor = only(&monitored, "ServiceMonitor");
    assert_eq!(text(monitor, &["metadata", "labels", "release"]), "prometheus");
    let tls = &monitor["spec"]["endpoints"][0]["tlsConfig"];
    assert_eq!(text(tls, &["keySecret", "name"]), "marketrelay-metrics-client");
}

#[test]
fn uninstalling_leaves_every_connection() {
    let objects = render(&[]);
    let definitions = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(definitions.len(), marketrelay_api::crds::all().len());
    for (installed, crd) in definitions.into_iter().zip(marketrelay_api::crds::all()) {
        assert_eq!(text(installed, &["metadata", "annotations", "helm.sh/resource-policy"]), "keep");
        let spec: CustomResourceDefinitionSpec =
            serde_yaml::from_value(installed["spec"].clone()).expect("a definition");
        assert!(spec == crd.spec, "{} isn't as the types say", crd.spec.names.kind);
    }
}

#[test]
fn plain_manifests_install_the_same_as_the_chart() {
    let folder = paths::checkout().join("manifests/install");
    let key = |object: &Value| {
        let part = |path: &[&str]| text(object, path).to_owned();
        (part(&["kind"]), part(&["metadata", "namespace"]), part(&["metadata", "name"]))
    };
    let mut plain = BTreeMap::new();
    for part in ["crds", "operator"] {
        let resources = objects(&read(&folder.join(part).join("kustomization.yaml"))).remove(0);
        for file in resources["resources"].as_sequence().expect("a list") {
            let file = folder.join(part).join(file.as_str().expect("a name"));
            plain.extend(objects(&read(&file)).into_iter().map(|object| (key(&object), object)));
        }
    }
    let namespace =
        plain.remove(&("Namespace".to_owned(), String::new(), SYSTEM.to_owned())).expect("is made");
    assert_eq!(text(&namespace, &["metadata", "labels", "pod-security.kubernetes.io/enforce"]), "restricted");
    let chart: BTreeMap<_, _> = render(&[]).into_iter().map(|object| (key(&object), object)).collect();
    assert_eq!(plain.keys().collect::<Vec<_>>(), chart.keys().collect::<Vec<_>>());
    for (key, object) in &chart {
        assert_eq!(&plain[key], object, "{key:?}");
    }
}

#[test]
fn every_pod_is_restricted() {
    let sandbox = read(&paths::checkout().join("manifests/sandbox/deployment.yaml"));
    let deployments = [objects(&sandbox), render(&[])].concat();
    let deployments = of_kind(&deployments, "Deployment");
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let pod = &deployment["spec"]["template"]["spec"];
        let name = text(deployment, &["metadata", "name"]);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::Bool(true), "{name}");
        assert_eq!(text(pod, &["securityContext", "seccompProfile", "type"]), "RuntimeDefault", "{name}");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[host].is_null(), "{name}: {host}");
        }
        for container in pod["containers"].as_sequence().expect("containers") {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], Value::Bool(false), "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], Value::Bool(true), "{name}");
            assert_eq!(text(&security["capabilities"]["drop"][0], &[]), "ALL", "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        }
        for volume in pod["volumes"].as_sequence().expect("volumes") {
            assert!(volume["hostPath"].is_null(), "{name}");
        }
    }
}

/// Rules without their order.
fn rules(role: &Value) -> Vec<String> {
    let rules = role.as_sequence().expect("rules").iter();
    let mut rules: Vec<_> = rules.map(|rule| serde_yaml::to_string(rule).expect("YAML")).collect();
    rules.sort();
    rules
}

#[test]
fn the_operator_may_do_what_its_list_says_and_no_more() {
    let allowed = objects(&read(&paths::checkout().join("src/operator/rbac.yaml"))).remove(0);
    let objects = render(&[]);
    assert_eq!(rules(&only(&objects, "ClusterRole")["rules"]), rules(&allowed["clusterRole"]));
    assert_eq!(rules(&only(&objects, "Role")["rules"]), rules(&allowed["role"]));
}

#[test]
fn with_watched_namespaces_nothing_may_be_written_in_the_cluster() {
    let objects = render(&["--set", "watchNamespaces={acme,globex}"]);
    let cluster = only(&objects, "ClusterRole");
    for rule in cluster["rules"].as_sequence().expect("rules") {
        for verb in rule["verbs"].as_sequence().expect("verbs") {
            assert!(["get", "list", "watch"].contains(&text(verb, &[])), "{rule:?}");
        }
        assert_ne!(text(&rule["resources"][0], &[]), "secrets", "{rule:?}");
    }
    let allowed = self::objects(&read(&paths::checkout().join("src/operator/rbac.yaml"))).remove(0);
    for namespace in ["acme", "globex"] {
        let here = |object: &&Value| text(object, &["metadata", "namespace"]) == namespace;
        let roles: Vec<_> = of_kind(&objects, "Role").into_iter().filter(here).collect();
        let bindings: Vec<_> = of_kind(&objects, "RoleBinding").into_iter().filter(here).collect();
        assert_eq!((roles.len(), bindings.len()), (1, 1), "{namespace}");
        let both = [rules(&cluster["rules"]), rules(&roles[0]["rules"])].concat();
        let mut both: Vec<_> = both.iter().map(String::as_str).collect();
        both.sort_unstable();
        assert_eq!(both, rules(&allowed["clusterRole"]));
    }
    let container = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let arguments = serde_yaml::to_string(&container["args"]).expect("YAML");
    assert!(arguments.contains("--watch-namespace=acme") && arguments.contains("--watch-namespace=globex"));
}

#[test]
fn keys_are_left_to_the_operators_own_account() {
    let objects = render(&[]);
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    let account = text(pod, &["serviceAccountName"]);
    let accounts = of_kind(&objects, "ServiceAccount").into_iter();
    let accounts: Vec<_> = accounts.map(|one| text(one, &["metadata", "name"])).collect();
    assert_eq!(accounts, [account, "marketrelay-purge"]);
    for binding in ["RoleBinding", "ClusterRoleBinding"].into_iter().flat_map(|kind| of_kind(&objects, kind))
    {
        assert_eq!(text(&binding["subjects"][0], &["name"]), account, "nobody else has rights");
    }
    let policy = only(&objects, "ValidatingAdmissionPolicy");
    let condition = text(&policy["spec"]["matchConditions"][0], &["expression"]);
    assert!(condition.ends_with(&format!("!= 'system:serviceaccount:{SYSTEM}:{account}'")), "{condition}");
    let selected = &policy["spec"]["matchConstraints"]["objectSelector"]["matchLabels"];
    assert_eq!(text(selected, &[marketrelay_api::labels::COMPONENT]), marketrelay_api::labels::KEYS);
}
