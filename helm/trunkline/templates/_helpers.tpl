{{- /* Names and labels, and the container that both modes share. */ -}}

{{- define "trunkline.name" -}}
{{- default "trunkline" .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "trunkline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "trunkline.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "trunkline.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "trunkline.selector" -}}
app.kubernetes.io/name: {{ include "trunkline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trunkline.labels" -}}
{{ include "trunkline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "trunkline-%s" .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "trunkline.configMap" -}}
{{- .Values.config.existingConfigMap | default (include "trunkline.fullname" .) }}
{{- end }}

{{- define "trunkline.content" -}}
{{- .Values.config.content | default (.Files.Get "files/proxy.yaml") }}
{{- end }}

{{- define "trunkline.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "trunkline.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "trunkline.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* The container without its probes. A sidecar is called from its own pod alone, a deployment from others. */ -}}
{{- define "trunkline.container" -}}
name: trunkline
image: {{ include "trunkline.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - run
  - --config
  - /etc/trunkline/proxy.yaml
  {{- with .Values.args }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  - name: ENVIRONMENT
    value: {{ .Values.environment | quote }}
  - name: INTEGRATIONS_STUB_MODE
    value: {{ .Values.stubs | quote }}
  - name: TRUNKLINE_LISTEN
    value: {{ printf "%s:%v" (ternary "127.0.0.1" "0.0.0.0" (eq .Values.mode "sidecar")) .Values.ports.http | quote }}
  - name: TRUNKLINE_METRICS
    value: {{ printf "0.0.0.0:%v" .Values.ports.metrics | quote }}
  {{- with .Values.tracing.endpoint }}
  - name: OTEL_EXPORTER_OTLP_ENDPOINT
    value: {{ . | quote }}
  - name: OTEL_TRACES_SAMPLER
    value: parentbased_traceidratio
  - name: OTEL_TRACES_SAMPLER_ARG
    value: {{ $.Values.tracing.sample | quote }}
  {{- end }}
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .Values.envFromSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
ports:
  - name: http
    containerPort: {{ .Values.ports.http }}
    protocol: TCP
  - name: metrics
    containerPort: {{ .Values.ports.metrics }}
    protocol: TCP
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  runAsGroup: 65532
  runAsNonRoot: true
  runAsUser: 65532
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: trunkline-config
    mountPath: /etc/trunkline
    readOnly: true
  - name: trunkline-state
    mountPath: /var/lib/trunkline
  {{- if .Values.existingSecret }}
  - name: trunkline-secret
    mountPath: /run/secrets/trunkline
    readOnly: true
  {{- end }}
startupProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 10
  failureThreshold: 3
{{- end }}

{{- /*
For another chart's pod: one entry of its `initContainers`, a native sidecar. The application starts once the startup
probe has passed, and Kubernetes stops the sidecar after the application.
With this chart as a dependency: include "trunkline.sidecar" .Subcharts.trunkline
*/ -}}
{{- define "trunkline.sidecar" -}}
- {{- include "trunkline.container" . | nindent 2 | trimPrefix "\n  " | printf " %s" }}
  restartPolicy: Always
{{- end }}

{{- /* For the same pod: entries of its `volumes`. */ -}}
{{- define "trunkline.volumes" -}}
- name: trunkline-config
  configMap:
    name: {{ include "trunkline.configMap" . }}
- name: trunkline-state
  emptyDir:
    sizeLimit: {{ .Values.state.sizeLimit }}
{{- with .Values.existingSecret }}
- name: trunkline-secret
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- /* For the same pod: its label, by which the PodMonitor finds it, and the group that may read the Secret. */ -}}
{{- define "trunkline.podLabels" -}}
trunkline.dev/scrape: "true"
{{- end }}
