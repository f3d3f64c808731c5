"""What a Pod may not be, to the letter; each row is one fault and the API's words for it."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api import resources as kinds
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.validation import validate_create, validate_status_update, validate_update

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
C0 = "spec.containers[0]"


def pod(container: JsonObject | None = None, **spec: Any) -> JsonObject:
    containers = [{"name": "web", "image": "a:1", **(container or {})}]
    obj: JsonObject = {
        "metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": containers, **deep_copy(spec)},
    }  # fmt: skip
    apply_defaults(kinds.PODS, obj)
    return obj


def errors(obj: JsonObject) -> list[str]:
    return [str(error) for error in validate_create(kinds.PODS, obj)]


SPECS: list[tuple[JsonObject, list[str]]] = [
    ({"schedulingGates": [{"name": "a b"}, {"name": "x"}, {"name": "x"}]},
     [f'spec.schedulingGates[0]: Invalid value: "a b": {NAME_PART}', 'spec.schedulingGates[2]: Duplicate value: "x"']),
    ({"schedulingGates": [{"name": "x"}], "nodeName": "n"},
     ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
    ({"readinessGates": [{"conditionType": "a b"}]},
     [f'spec.readinessGates[0].conditionType: Invalid value: "a b": {NAME_PART}']),
    ({"hostNetwork": True, "dnsPolicy": "None"},
     ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
    ({"dnsPolicy": "None", "dnsConfig": {}},
     ["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]),
    ({"dnsPolicy": "Any"},
     ['spec.dnsPolicy: Unsupported value: "Any": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default",'
      ' "None"']),
    ({"dnsConfig": {"nameservers": ["1.1.1.1", "x", "8.8.8.8", "9.9.9.9"], "searches": ["_a.b.", ".", "A"],
                    "options": [{"value": "1"}]}},
     ['spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","x","8.8.8.8","9.9.9.9"]: must not have more than 3'
      " nameservers", f'spec.dnsConfig.nameservers[1]: Invalid value: "x": {NO_IP}',
      "spec.dnsConfig.searches[2]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case"
      " alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g."
      " 'example.com', regex used for validation is"
      r" '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
      "spec.dnsConfig.options[0]: Required value: must not be empty"]),
    ({"topologySpreadConstraints": [
        {"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Maybe", "minDomains": 0},
        {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "X"},
        {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"]},
     ]},
     ["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
      "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
      'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe": supported values:'
      ' "DoNotSchedule", "ScheduleAnyway"',
      "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero",
      "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if"
      " whenUnsatisfiable=DoNotSchedule, not Maybe",
      'spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}"',
      'spec.topologySpreadConstraints[1].nodeTaintsPolicy: Unsupported value: "X": supported values: "Honor", "Ignore"',
      "spec.topologySpreadConstraints[2].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
    ({"hostAliases": [{"ip": "x", "hostnames": ["ok", "A_"]}]},
     [f'spec.hostAliases[0].ip: Invalid value: "x": {NO_IP}',
      f'spec.hostAliases[0].hostnames[1]: Invalid value: "A_": {SUBDOMAIN}']),
    ({"ephemeralContainers": [{"name": "d", "image": "i"}]}, ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
    ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}, {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1},
                      {"operator": "Equal"}, {"key": "k", "operator": "Lt"}]},
     ["spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
      "spec.tolerations[1].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
      'spec.tolerations[2].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match'
      ' all values and all keys"',
      'spec.tolerations[3].operator: Unsupported value: "Lt": supported values: "Equal", "Exists"']),
    ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}},
     ["spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have"
      " at least one node selector term"]),
    ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {
        "matchExpressions": [{"key": "a", "operator": "Gt", "values": []}, {"key": "a", "operator": "Is"}],
        "matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}}]}}},
     [f"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].{rest}" for rest in (
         "weight: Invalid value: 0: must be in the range 1-100",
         "preference.matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
         'preference.matchExpressions[1].operator: Invalid value: "Is": not a valid selector operator',
         'preference.matchFields[0].key: Invalid value: "spec.x": not a valid field selector key')]),
    ({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["N"]}]}}},
     [f"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].{rest}" for rest in (
         "namespace: Invalid value: \"N\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',"
         " and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
         " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
         "topologyKey: Required value: can not be empty", 'topologyKey: Invalid value: "": name part must be non-empty',
         f'topologyKey: Invalid value: "": {NAME_PART}')]),
    ({"overhead": {"cpu": "-1"}}, ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    ({"os": {"name": ""}}, ["spec.os.name: Required value: cannot be empty"]),
    ({"os": {"name": "plan9"}}, ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"']),
    ({"securityContext": {"fsGroup": -1, "runAsUser": 2**31, "fsGroupChangePolicy": "X", "seccompProfile": {"type": "X"},
                          "sysctls": [{"name": "net.a"}, {"name": "net.a"}, {"name": "A"}]}, "hostNetwork": True},
     ["spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
      "spec.securityContext.runAsUser: Invalid value: 2147483648: must be between 0 and 2147483647, inclusive",
      "spec.securityContext.sysctls[0].name: Invalid value: \"net.a\": may not be specified when 'hostNetwork' is true",
      'spec.securityContext.sysctls[1].name: Duplicate value: "net.a"',
      "spec.securityContext.sysctls[1].name: Invalid value: \"net.a\": may not be specified when 'hostNetwork' is true",
      'spec.securityContext.sysctls[2].name: Invalid value: "A": must have at most 253 characters and match regex'
      r" ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
      'spec.securityContext.fsGroupChangePolicy: Unsupported value: "X": supported values: "Always", "OnRootMismatch"',
      'spec.securityContext.seccompProfile.type: Unsupported value: "X": supported values: "Localhost", "RuntimeDefault",'
      ' "Unconfined"']),
    ({"hostPID": True, "shareProcessNamespace": True},
     ["spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be"
      " enabled"]),
    ({"hostUsers": False, "hostIPC": True}, ["spec.HostIPC: Forbidden: when `pod.Spec.HostUsers` is false"]),
    ({"volumes": [{"name": "p", "projected": {"sources": [
        {"secret": {"items": [{"key": "a", "path": "x"}]}, "configMap": {"name": "c", "items": [{"key": "a", "path": "x"}]}},
        {"serviceAccountToken": {"expirationSeconds": 5, "path": "../t"}},
        {"downwardAPI": {"items": [{"path": "f", "fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}]}}]}}]},
     ["spec.volumes[0].projected.sources[0].secret.name: Required value",
      'spec.volumes[0].projected: Invalid value: "c": conflicting duplicate paths',
      "spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
      "spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a"
      " duration less than 10 minutes", "spec.volumes[0].projected.path: Invalid value: \"../t\": must not contain '..'",
      'spec.volumes[0].projected.sources[2].downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported'
      ' values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"']),
    ({"volumes": [{"name": "h", "hostPath": {"path": "/a/../b", "type": "Link"}},
                  {"name": "e", "emptyDir": {"sizeLimit": "-1"}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 512}},
                  {"name": "d", "downwardAPI": {"items": [{"path": "..x"}]}}]},
     ["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
      'spec.volumes[0].hostPath.type: Unsupported value: "Link": supported values: "", "BlockDevice", "CharDevice",'
      ' "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
      "spec.volumes[1].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
      "spec.volumes[2].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
      "spec.volumes[3].downwardAPI.path: Invalid value: \"..x\": must not start with '..'",
      "spec.volumes[3].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"]),
    ({"initContainers": [
        {"name": "web", "image": "i", "restartPolicy": "Sometimes", "livenessProbe": {"exec": {"command": ["x"]}}},
        {"name": "side", "image": "i", "restartPolicy": "Always", "livenessProbe": {"exec": {}}}]},
     ['spec.initContainers[0].restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never",'
      ' "OnFailure"', 'spec.initContainers[0].name: Duplicate value: "web"',
      "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
      "spec.initContainers[1].livenessProbe.exec.command: Required value"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "expected"), SPECS, ids=[f"{'-'.join(spec)}-{at}" for at, (spec, _) in enumerate(SPECS)]
)
def test_pod_specs_are_told_what_is_wrong_with_them(spec: JsonObject, expected: list[str]) -> None:
    assert errors(pod(**spec)) == expected


CONTAINERS: list[tuple[JsonObject, list[str]]] = [
    ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
     [f'{C0}.securityContext: Invalid value: {{"Capabilities":null,"Privileged":true,"SELinuxOptions":null,'
      '"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,'
      '"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: cannot set'
      " `allowPrivilegeEscalation` to false and `privileged` to true"]),
    ({"securityContext": {"procMount": "Unmasked", "seccompProfile": {"type": "Localhost"}}},
     [f'{C0}.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
      f"{C0}.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]),
    ({"ports": [{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]},
     [f'{C0}.ports[1].hostPort: Duplicate value: "TCP//80"']),
    ({"terminationMessagePolicy": "Never"},
     [f'{C0}.terminationMessagePolicy: Unsupported value: "Never": supported values: "File", "FallbackToLogsOnError"']),
    ({"env": [{"name": "a", "valueFrom": {}}, {"name": "b", "value": "x", "valueFrom": {"secretKeyRef": {"name": "S", "key": ""}}},
              {"name": "c", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}},
              {"name": "d", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a b']"}}},
              {"name": "e", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
              {"name": "f", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1k"}}}]},
     [f'{C0}.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or'
      " `secretKeyRef`", f'{C0}.env[1].valueFrom.secretKeyRef.name: Invalid value: "S": {SUBDOMAIN}',
      f"{C0}.env[1].valueFrom.secretKeyRef.key: Required value",
      f'{C0}.env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
      f'{C0}.env[2].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not'
      " supported: spec.x", f'{C0}.env[3].valueFrom.fieldRef: Invalid value: "a b": {NAME_PART}',
      f'{C0}.env[4].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name",'
      ' "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",'
      ' "status.podIP", "status.podIPs"',
      f'{C0}.env[5].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are'
      " supported with the cpu resource"]),
    ({"envFrom": [{"prefix": "a=", "secretRef": {"name": "s"}, "configMapRef": {"name": "c-"}}, {}]},
     [f'{C0}.envFrom[0].prefix: Invalid value: "a=": a valid environment variable name must consist only of printable ASCII'
      " characters other than '='", f'{C0}.envFrom: Invalid value: "": may not have more than one field specified at a time',
      f'{C0}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
    ({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "/x", "subPathExpr": "../y", "mountPropagation": "Bidirectional"},
                       {"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled"}, {"name": "w", "mountPath": ""}]},
     [f'{C0}.volumeMounts.subPath: Invalid value: "/x": must be a relative path',
      f'{C0}.volumeMounts[0].subPathExpr: Invalid value: "../y": subPathExpr and subPath are mutually exclusive',
      f"{C0}.volumeMounts.subPathExpr: Invalid value: \"../y\": must not contain '..'",
      f"{C0}.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged"
      " containers", f'{C0}.volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
      f"{C0}.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
      f'{C0}.volumeMounts[2].name: Not found: "w"', f"{C0}.volumeMounts[2].mountPath: Required value"]),
    ({"volumeDevices": [{"name": "v", "devicePath": "/d"}]},
     [f'{C0}.volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral'
      " for block mode"]),
    ({"resources": {"limits": {"foo": "1", "example.com/gpu": "1500m", "hugepages-2Mi": "2Mi"}}},
     [f'{C0}.resources.limits[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
      f'{C0}.resources.limits[foo]: Invalid value: "foo": must be a standard resource for containers',
      f'{C0}.resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer',
      f'{C0}.resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
      f'{C0}.resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers',
      f'{C0}.resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer',
      f"{C0}.resources: Forbidden: HugePages require cpu or memory"]),
    ({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1", "example.com/gpu": "1"}}},
     [f"{C0}.resources.limits: Required value: Limit must be set for non overcommitable resources"]),
    ({"resources": {"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}},
     [f'{C0}.resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2']),
    ({"readinessProbe": {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 5}},
     [f"{C0}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"]),
    ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}},
     [f"{C0}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"]),
    ({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]},
     [f"{C0}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"]),
    ({"restartPolicy": "Never", "restartPolicyRules": [{"action": "No", "exitCodes": {"operator": "Equals"}}, {}]},
     [f'{C0}.restartPolicyRules[0].action: Unsupported value: "No": supported values: "Restart",'
      ' "RestartAllContainers"',
      f'{C0}.restartPolicyRules[0].exitCodes.operator: Unsupported value: "Equals": supported values: "In", "NotIn"',
      f'{C0}.restartPolicyRules[1].action: Unsupported value: "": supported values: "Restart",'
      ' "RestartAllContainers"',
      f"{C0}.restartPolicyRules[1].exitCodes: Required value: must be specified"]),
    ({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "Maybe"}]},
     [f'{C0}.resizePolicy: Unsupported value: "Maybe": supported values: "NotRequired", "RestartContainer"']),
]  # fmt: skip


@pytest.mark.parametrize(
    ("container", "expected"), CONTAINERS, ids=["-".join(container) for container, _ in CONTAINERS]
)
def test_containers_are_told_what_is_wrong_with_them(container: JsonObject, expected: list[str]) -> None:
    assert errors(pod(container, volumes=[{"name": "v", "emptyDir": {}}])) == expected


def test_on_the_nodes_network_a_port_is_the_nodes() -> None:
    wrong = {"ports": [{"containerPort": 80, "hostPort": 81}]}
    assert errors(pod(wrong, hostNetwork=True)) == [
        f"{C0}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
    ]
    assert errors(pod({"ports": [{"containerPort": 80}]}, hostNetwork=True)) == []


def test_an_image_is_not_trimmed_in_a_template() -> None:
    assert errors(pod({"image": " a"})) == [
        f'{C0}.image: Invalid value: " a": must not have leading or trailing whitespace'
    ]


def changed(old: JsonObject, **spec: Any) -> list[str]:
    new = deep_copy(old)
    new["spec"].update(spec)
    return [str(error) for error in validate_update(kinds.PODS, new, old)]


def test_a_change_of_a_fixed_field_is_shown() -> None:
    (found,) = changed(pod(), hostname="b")
    assert found.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    )
    assert '+ \tHostname: "b",' in found


def test_gates_only_go_and_tolerations_only_come() -> None:
    old = pod(schedulingGates=[{"name": "a"}], tolerations=[{"key": "k", "operator": "Exists"}])
    assert changed(old, schedulingGates=[]) == []
    assert changed(old, schedulingGates=[{"name": "b"}]) == [
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"
    ]
    assert changed(old, tolerations=[]) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]
    assert changed(old, nodeSelector={"zone": "a"}) == []
    assert len(changed(pod(), nodeSelector={"zone": "a"})) == 1


def test_deadlines_only_get_shorter() -> None:
    old = pod(activeDeadlineSeconds=10)
    assert changed(old, activeDeadlineSeconds=5) == []
    assert changed(old, activeDeadlineSeconds=11) == [
        "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
    ]
    assert changed(old, activeDeadlineSeconds=None) == [
        "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
    ]


def test_what_has_ended_for_good_does_not_come_back() -> None:
    old = pod(restartPolicy="Never")
    old["status"] = {
        "qosClass": "BestEffort",
        "containerStatuses": [{"name": "web", "state": {"terminated": {"exitCode": 0}}}],
    }
    new = deep_copy(old)
    new["status"]["containerStatuses"][0]["state"] = {"running": {}}
    new["status"]["qosClass"] = "Guaranteed"
    assert [str(error) for error in validate_status_update(kinds.PODS, new, old)] == [
        'status.qosClass: Invalid value: "Guaranteed": field is immutable',
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
    ]
