{{- /*
Daemons of one kind: workload, settings, disruption budget, network policy. Takes root; instance, the suffix of their names; own, the operator's
values of them; settings, as they differ from k8s/base; secret, of their NATS user; replicas, or 0 where KEDA scales; and statefulSet.
*/}}
{{- define "transcriber.daemon" }}
{{- $workload := include "transcriber.object" (merge (dict "file" "base/deployment.yaml") .) | fromYaml }}
{{- $spec := $workload.spec }}
{{- $pod := $spec.template.spec }}
{{- $container := index $pod.containers 0 }}
{{- $settings := merge .settings (include "transcriber.settings" .root | fromYaml) }}
{{- if .own.gpu }}
{{- $settings = mergeOverwrite $settings (include "transcriber.literals" (dict "root" .root "folder" "overlays/gpu") | fromYaml) }}
{{- $_ := set $container.resources.limits "nvidia.com/gpu" 1 }}
{{- end }}
{{- if .replicas }}
{{- $_ := set $spec "replicas" .replicas }}
{{- else }}
{{- $_ := unset $spec "replicas" }}
{{- end }}
{{- if .statefulSet }}
{{- $_ := set $workload "kind" "StatefulSet" }}
{{- $_ := unset $spec "strategy" }}
{{- $_ := mergeOverwrite $spec (dict "podManagementPolicy" "Parallel" "serviceName" "transcriber") }}
{{- $ordinal := dict "fieldRef" (dict "fieldPath" "metadata.labels['apps.kubernetes.io/pod-index']") }}
{{- $_ := set $container "env" (append $container.env (dict "name" "PARTITION" "valueFrom" $ordinal)) }}
{{- end }}
{{- with .strategy }}
{{- $_ := set $spec "strategy" . }}
{{- end }}
{{- include "transcriber.workload" (dict "root" .root "workload" $workload "settings" $settings "own" .own "secret" .secret) }}
---
{{ include "transcriber.object" (dict "root" .root "file" "base/disruption.yaml" "instance" .instance) }}
{{- include "transcriber.network" (dict "root" .root "folder" "base" "instance" .instance) }}
{{- end }}

{{- /*
KEDA, by consumers. Takes root; instance; stream and consumers of JetStream; min and max, of pods; lag that is one pod's, and lag from which there is a pod.
*/}}
{{- define "transcriber.scaling" }}
{{- $keda := .root.Values.keda }}
---
{{- $scaled := .root.Files.Get "kustomize/overlays/radio-7-durable/scaling.yaml" | fromYaml }}
{{- $name := printf "transcriber-%s" .instance }}
{{- $_ := mergeOverwrite $scaled.metadata (dict "name" $name "namespace" .root.Release.Namespace) }}
{{- $triggers := list }}
{{- range .consumers }}
{{- $lag := dict "lagThreshold" ($.lag | toString) "activationLagThreshold" ($.from | toString) }}
{{- $of := dict "natsServerMonitoringEndpoint" $keda.natsMonitoring "account" $keda.account "stream" $.stream "consumer" . }}
{{- $triggers = append $triggers (dict "type" "nats-jetstream" "metadata" (merge $of $lag)) }}
{{- end }}
{{- $_ := mergeOverwrite $scaled.spec (dict "scaleTargetRef" (dict "name" $name) "minReplicaCount" .min "maxReplicaCount" .max "triggers" $triggers) }}
{{ toYaml $scaled }}
{{- end }}
