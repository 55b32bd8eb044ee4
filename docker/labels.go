package docker

import "github.com/effiscale/effiscale/knowledge"

// Labels that Compose and Swarm put on containers.
const (
	labelComposeProject = "com.docker.compose.project"
	labelComposeService = "com.docker.compose.service"
	labelSwarmService   = "com.docker.swarm.service.name"
	labelSwarmTask      = "com.docker.swarm.task.id"
)

// serviceOf names the service of a container: the label effiscale.service, else
// Compose's project and service, else Swarm's service, else the container's name.
func serviceOf(name string, labels map[string]string) knowledge.ServiceKey {
	compose := ""
	project, service := labels[labelComposeProject], labels[labelComposeService]
	if knowledge.ValidName(project) && knowledge.ValidName(service) {
		compose = project + "_" + service
	}
	return knowledge.ServiceOf(name, labels, compose, labels[labelSwarmService])
}
