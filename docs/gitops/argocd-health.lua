-- Health of a DiffusionDeployment for Argo CD. Goes into the ConfigMap argocd-cm under the key
-- resource.customizations.health.diffusion-operator.io_DiffusionDeployment; see docs/how-to/gitops.md.
local answer = {status = "Progressing", message = "The operator has not seen this spec yet"}
if obj.metadata.deletionTimestamp ~= nil then
  answer.message = "Being deleted"
  return answer
end
if obj.status == nil or obj.status.conditions == nil then
  return answer
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return answer
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions["Ready"], conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready == nil then
  return answer
end
answer.message = ready.message
if ready.reason == "Suspended" then
  answer.status = "Suspended"
elseif ready.status == "True" then
  answer.status = "Healthy"
  -- It serves, with fewer replicas or on a fallback of its plan: the message says so, the sync goes on.
  for _, kind in ipairs({"Degraded", "Reconciling"}) do
    if conditions[kind] ~= nil and conditions[kind].status == "True" then
      answer.message = conditions[kind].message
      break
    end
  end
end
return answer
