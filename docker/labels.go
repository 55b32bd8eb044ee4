package docker

import (
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// Labels that Compose and Swarm put on containers.
const (
	labelComposeProject = "com.docker.compose.project"
	labelComposeService = "com.docker.compose.service"
	labelComposeOneoff  = "com.docker.compose.oneoff"
	labelComposeReplace = "com.docker.compose.replace"
	labelSwarmService   = "com.docker.swarm.service.name"
	labelSwarmTask      = "com.docker.swarm.task.id"
)

// serviceOf names the service of a container: the label effiscale.service, else
// Compose's project and service, else Swarm's service, else the container's name. What
// `compose run` starts has the service's labels and does other work.
func serviceOf(name string, labels map[string]string) knowledge.ServiceKey {
	compose := knowledge.ServiceOfProject(labels[labelComposeProject], labels[labelComposeService])
	key := knowledge.ServiceOf(name, labels, compose, knowledge.ServiceKey(labels[labelSwarmService]))
	if strings.EqualFold(labels[labelComposeOneoff], "true") {
		return key.Oneoff()
	}
	return key
}
