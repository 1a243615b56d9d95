//! The control plane of a Kubernetes, in namespaces with loopback alone: etcd and the API server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::context::{Context, write};
use super::expect::poll;
use super::namespace::Isolated;
use super::tools::Tool;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, cmd};

/// Tokens, with the name and the groups of who has them. The second user has no rights.
const TOKENS: &str = "admin,admin,admin,system:masters\nguest,guest,guest\n";
/// A client's configuration. The server has a certificate that it made itself.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters:
  - name: cluster
    cluster: {server: \"https://127.0.0.1:6443\", insecure-skip-tls-verify: true}
users:
  - {name: admin, user: {token: admin}}
  - {name: guest, user: {token: guest}}
contexts:
  - {name: admin, context: {cluster: cluster, user: admin}}
  - {name: guest, context: {cluster: cluster, user: guest}}
current-context: admin
";

/// The programs of the control plane and what they need. Dropped, they are ended.
pub(crate) struct ControlPlane {
    pub(crate) running: Isolated,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) folder: PathBuf,
    tools: PathBuf,
}

impl ControlPlane {
    /// Starts both, and waits until the API server is ready.
    pub(crate) fn start(context: &Context<'_>) -> anyhow::Result<Self> {
        let folder = context.new_folder("kubernetes")?;
        let tools = context.found.path(Tool::Kubernetes);
        write(&folder.join("tokens.csv"), TOKENS.as_bytes())?;
        let kubeconfig = folder.join("kubeconfig");
        write(&kubeconfig, KUBECONFIG.as_bytes())?;
        let (sh, key) = (&context.sh, folder.join("accounts.key"));
        cmd!(sh, "openssl genrsa -out {key} 2048").capture()?;
        let (bin, at) = (tools.join("bin").display().to_string(), folder.display().to_string());
        let etcd = format!(
            "{bin}/etcd --data-dir {at}/etcd --unsafe-no-fsync --log-level error \
             --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
             --listen-peer-urls http://127.0.0.1:2380"
        );
        let server = format!(
            "{bin}/kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address 127.0.0.1 \
             --advertise-address 10.96.0.1 --service-cluster-ip-range 10.96.0.0/24 --endpoint-reconciler-type none \
             --cert-dir {at}/certificates --token-auth-file {at}/tokens.csv --authorization-mode RBAC \
             --disable-admission-plugins ServiceAccount --service-account-issuer https://kubernetes.default.svc \
             --service-account-key-file {at}/accounts.key --service-account-signing-key-file {at}/accounts.key"
        );
        let script = format!("{etcd} & exec {server}");
        let running = Isolated::start(Path::new("sh"), &["-c", &script], &[], &folder.join("log"))?;
        let mut plane = Self { running, kubeconfig, folder, tools };
        poll("the API server's readiness", || {
            plane.running.check_running()?;
            Ok(plane.kubectl().args(["get", "--raw", "/readyz"]).capture().ok())
        })
        .with_context(|| plane.running.output().unwrap_or_default())?;
        Ok(plane)
    }

    /// The client, as the administrator.
    pub(crate) fn kubectl(&self) -> Cmd<'_> {
        let kubectl = self.tools.join("bin/kubectl").display().to_string();
        self.running.inside(&kubectl).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.folder)
    }

    /// Installs Istio's and Knative's custom resource definitions.
    pub(crate) fn install_definitions(&self) -> anyhow::Result<()> {
        let definitions = self.tools.join("definitions");
        // They are larger than the annotation in which a client-side `apply` keeps them.
        self.kubectl().args(["apply", "--server-side", "--filename"]).arg(definitions).capture()?;
        let established = [
            "wait",
            "--for",
            "condition=Established",
            "--all",
            "customresourcedefinitions",
            "--timeout",
            "60s",
        ];
        self.kubectl().args(established).capture()?;
        Ok(())
    }

    /// A namespace that admits only pods that PodSecurity `restricted` admits, and warns about all else.
    pub(crate) fn create_restricted_namespace(&self, name: &str) -> anyhow::Result<()> {
        let label = |mode: &str| format!("pod-security.kubernetes.io/{mode}=restricted");
        self.kubectl().args(["create", "namespace", name]).capture()?;
        let label = ["label", "namespace", name, &label("enforce"), &label("warn")];
        self.kubectl().args(label).capture()?;
        Ok(())
    }
}
