{{- /*
What the templates read of kustomize's folders. A named template yields text: these yield YAML, for fromYaml.
*/}}

{{- /* The settings of a kustomization, by name. Takes root, and the folder. */}}
{{- define "transcriber.literals" }}
{{- $settings := dict }}
{{- range (index (.root.Files.Get (printf "kustomize/%s/kustomization.yaml" .folder) | fromYaml).configMapGenerator 0).literals }}
{{- $pair := splitn "=" 2 . }}
{{- $_ := set $settings $pair._0 $pair._1 }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- /* The settings that all daemons share; the model is the one that the release fetches, if it does. Takes root. */}}
{{- define "transcriber.settings" }}
{{- $settings := dict }}
{{- range regexFindAll "(?m)^[A-Z_]+=.*$" (.Files.Get "kustomize/base/settings.env") -1 }}
{{- $pair := splitn "=" 2 . }}
{{- $_ := set $settings $pair._0 $pair._1 }}
{{- end }}
{{- with .Values.models.pull }}
{{- $_ := set $settings "WHISPER_MODEL_PATH" (printf "%s/ggml-%s.bin" (dir $settings.WHISPER_MODEL_PATH) .) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- /*
A manifest of kustomize's folders, in our namespace. Takes root; file, and instance where it is one of several: a suffix of its name, and a
label of it and of the pods that it chooses.
*/}}
{{- define "transcriber.object" }}
{{- $object := .root.Files.Get (printf "kustomize/%s" .file) | fromYaml }}
{{- $_ := set $object.metadata "namespace" .root.Release.Namespace }}
{{- with .instance }}
{{- $label := dict "app.kubernetes.io/instance" . }}
{{- $_ := set $object.metadata "name" (printf "%s-%s" $object.metadata.name .) }}
{{- $_ := set $object.metadata "labels" (mergeOverwrite ($object.metadata.labels | default dict) $label) }}
{{- range compact (list $object.spec.selector $object.spec.podSelector) }}
{{- $_ := mergeOverwrite .matchLabels $label }}
{{- end }}
{{- with $object.spec.template }}
{{- $_ := mergeOverwrite .metadata.labels $label }}
{{- range .spec.topologySpreadConstraints }}
{{- $_ := mergeOverwrite .labelSelector.matchLabels $label }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $object }}
{{- end }}

{{- /*
A workload as the operator wants it, and its ConfigMap. Takes root; workload, the object of kustomize's folder; settings, of its kind; own, the
operator's values of it. Changes the workload: its pod's image, settings, resources, Secret of NATS, and what pod says.
*/}}
{{- define "transcriber.workload" }}
{{- $values := .root.Values }}
{{- $spec := .workload.spec.template.spec }}
{{- $container := index $spec.containers 0 }}
{{- $name := .workload.metadata.name }}
{{- $settings := .settings }}
{{- if $values.prometheus.scrape }}
{{- $_ := mergeOverwrite $settings (dict "OTEL_METRICS_EXPORTER" "prometheus" "OTEL_EXPORTER_PROMETHEUS_HOST" "0.0.0.0") }}
{{- end }}
{{- $_ := mergeOverwrite $settings $values.settings (.own.settings | default dict) }}
{{- $_ := set (index $container.envFrom 0).configMapRef "name" $name }}
{{- $_ := set $container "image" (printf "%s:%s%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) (.own.gpu | default false | ternary "-cuda" "")) }}
{{- with $values.image.pullPolicy }}
{{- $_ := set $container "imagePullPolicy" . }}
{{- end }}
{{- with $values.imagePullSecrets }}
{{- $_ := set $spec "imagePullSecrets" . }}
{{- end }}
{{- with .own.resources }}
{{- $_ := set $container "resources" (mergeOverwrite $container.resources .) }}
{{- end }}
{{- /* env comes before envFrom, so what it has too would not be the operator's. */}}
{{- $env := list }}
{{- range $container.env }}
{{- if not (hasKey $settings .name) }}
{{- $env = append $env . }}
{{- end }}
{{- end }}
{{- if $container.env }}
{{- $_ := set $container "env" $env }}
{{- end }}
{{- with $settings.SHUTDOWN_GRACE_SECS }}
{{- $_ := set $spec "terminationGracePeriodSeconds" (max $spec.terminationGracePeriodSeconds (add (ceil .) 10)) }}
{{- end }}
{{- range $volume := $spec.volumes }}
{{- if eq $volume.name "nats" }}
{{- $_ := set $volume.secret "secretName" $.secret }}
{{- else if eq $volume.name "keys" }}
{{- $_ := set $volume.secret "secretName" $values.gateway.keysSecret }}
{{- else if eq $volume.name "models" }}
{{- $_ := set $volume.persistentVolumeClaim "claimName" $values.models.claim }}
{{- end }}
{{- end }}
{{- $_ := set .workload.spec.template.metadata "annotations" (dict "checksum/settings" (toJson $settings | sha256sum)) }}
{{- $spec = mergeOverwrite $spec (deepCopy $values.pod) (.own.pod | default dict) }}
{{- if .own.gpu }}
{{- /* After the merge: of lists one replaces the other. */}}
{{- $gpu := dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule" }}
{{- $_ := set $spec "tolerations" (append ($spec.tolerations | default list) $gpu | uniq) }}
{{- end }}
{{- $_ := set .workload.spec.template "spec" $spec }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- with .workload.metadata.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with omit .workload.metadata.labels "app.kubernetes.io/name" }}
  labels: {{- toYaml . | nindent 4 }}
  {{- end }}
data: {{- toYaml $settings | nindent 2 }}
---
{{ toYaml .workload }}
{{- end }}

{{- /* Whom the pods reach, and who them. Takes root; folder and instance, as of transcriber.object; annotations, or none. */}}
{{- define "transcriber.network" }}
{{- $network := .root.Values.network }}
{{- if $network.enabled }}
{{- $policy := include "transcriber.object" (merge (dict "file" (printf "%s/network.yaml" .folder)) .) | fromYaml }}
{{- with $network.egress }}
{{- $_ := set $policy.spec "egress" . }}
{{- end }}
{{- if and $policy.spec.ingress $network.gatewayFrom }}
{{- $_ := set (index $policy.spec.ingress 0) "from" $network.gatewayFrom }}
{{- end }}
{{- with .annotations }}
{{- $_ := set $policy.metadata "annotations" . }}
{{- end }}
---
{{ toYaml $policy }}
{{- end }}
{{- end }}

{{- /* The streams that JetStream keeps, as a list named streams. Takes root. */}}
{{- define "transcriber.durable" }}
{{- $streams := list }}
{{- range $name, $own := .Values.streams }}
{{- if ($own | default dict).durable }}
{{- $streams = append $streams $name }}
{{- end }}
{{- end }}
{{- toYaml (dict "streams" $streams) }}
{{- end }}

{{- /* Not empty where a Job makes what JetStream is to keep. Takes root. */}}
{{- define "transcriber.provisioned" }}
{{- $durable := (include "transcriber.durable" . | fromYaml).streams }}
{{- $settings := merge (dict) (.Values.provision.settings | default dict) .Values.settings }}
{{- $audit := has (lower ($settings.AUDIT | default "")) (list "1" "true" "yes" "on" "t" "y") }}
{{- if and (eq .Values.jetstream "job") (or $durable .Values.partitions.enabled .Values.files.enabled $audit $settings.CONFIG_BUCKET) -}}
true
{{- end }}
{{- end }}
