{{/* Name of this chart, for labels. */}}
{{- define "diffusion-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of every object. Short enough for the suffix of a ReplicaSet and a pod. */}}
{{- define "diffusion-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "diffusion-operator.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "diffusion-operator.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "diffusion-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "diffusion-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "diffusion-operator.labels" -}}
{{ include "diffusion-operator.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: diffusion-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
One image reference. Called with a dict: image (the values), path (where they stand), appVersion.
A digest decides over a tag; an empty repository ends the render with one sentence.
*/}}
{{- define "diffusion-operator.image" -}}
{{- if not .image.repository -}}
{{- fail (printf "%s.repository is empty. No image of this project is published yet: build both with `make images`, push them where your nodes can pull from, and set operator.image.repository and engine.image.repository." .path) -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .appVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The node agent's objects: their name, their namespace, their labels. */}}
{{- define "diffusion-operator.nodeAgentName" -}}
{{- printf "%s-node-agent" (include "diffusion-operator.fullname" . | trunc 50 | trimSuffix "-") -}}
{{- end -}}

{{- define "diffusion-operator.nodeAgentNamespace" -}}
{{- $namespace := default (include "diffusion-operator.nodeAgentName" .) .Values.nodeAgent.namespace -}}
{{- if and (eq $namespace .Release.Namespace) .Values.nodeAgent.createNamespace -}}
{{- fail (printf "nodeAgent.namespace is %s, the namespace of the operator. The node agent needs Pod Security level privileged, which would then hold for the operator too: name another namespace, or set nodeAgent.createNamespace=false if you mean it." $namespace) -}}
{{- end -}}
{{- $namespace -}}
{{- end -}}

{{- define "diffusion-operator.nodeAgentSelectorLabels" -}}
app.kubernetes.io/name: diffusion-node-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "diffusion-operator.nodeAgentLabels" -}}
{{ include "diffusion-operator.nodeAgentSelectorLabels" . }}
app.kubernetes.io/component: node-agent
app.kubernetes.io/part-of: diffusion-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
