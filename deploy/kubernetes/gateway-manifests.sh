#!/usr/bin/env bash
# Writes a kustomize component that gives gateways the manifests of a models folder, without the weights, through a ConfigMap.
#   deploy/kubernetes/gateway-manifests.sh /srv/dryapi/models my-cluster/manifests
# Then name the folder in your overlay: `components: [manifests]`. Run it again and apply whenever a manifest changes: gateways roll over to it.
# The manifests of the models that come with the image need none of this.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "gateway-manifests: expected two arguments, the models folder and the folder to write; got $#" >&2
  exit 2
fi
models=$1 into=$2
shopt -s nullglob
manifests=("$models"/*/model.json)
if [ ${#manifests[@]} -eq 0 ]; then
  echo "gateway-manifests: $models has no folder with a model.json; expected a folder as DRYAPI_MODELS_DIR names it" >&2
  exit 2
fi

rm -rf "$into"
mkdir -p "$into"
files='' items=''
for manifest in "${manifests[@]}"; do
  slug=$(basename "$(dirname "$manifest")")
  cp "$manifest" "$into/$slug.json"
  files+="      - $slug.json"$'\n'
  items+="                - { key: $slug.json, path: $slug/model.json }"$'\n'
done

cat >"$into/kustomization.yaml" <<EOF
# Made by gateway-manifests.sh.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: dryapi-manifests
    files:
${files%$'\n'}
  - name: dryapi-gateway
    behavior: merge
    literals: [DRYAPI_MODELS_DIR=/models]
patches:
  - path: gateway.patch.yaml
EOF
cat >"$into/gateway.patch.yaml" <<EOF
apiVersion: apps/v1
kind: Deployment
metadata:
  name: dryapi-gateway
spec:
  template:
    spec:
      containers:
        - name: gateway
          volumeMounts:
            - { name: manifests, mountPath: /models, readOnly: true }
      volumes:
        - name: manifests
          configMap:
            name: dryapi-manifests
            items:
${items%$'\n'}
EOF
echo "gateway-manifests: ${#manifests[@]} manifests in $into"
