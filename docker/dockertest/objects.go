package dockertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// subnet is a network that was created.
type subnet struct {
	id string
	on map[knowledge.ContainerID][]string // to its aliases
}

// routeImage finds the operation for a path below /images.
func routeImage(method string, rest []string) (op, name string) {
	last := len(rest) - 1
	switch {
	case last < 0:
	case method == http.MethodPost && last == 0 && rest[0] == "create":
		return Import, ""
	case method == http.MethodDelete:
		return RemoveI, strings.Join(rest, "/")
	case method == http.MethodGet && rest[last] == "json":
		return Image, strings.Join(rest[:last], "/")
	case method == http.MethodPost && rest[last] == "tag":
		return Tag, strings.Join(rest[:last], "/")
	}
	return "", ""
}

// routeNetwork finds the operation for a path below /networks.
func routeNetwork(method string, rest []string) (op, name string) {
	switch {
	case len(rest) == 1 && method == http.MethodPost && rest[0] == "create":
		return CreateN, ""
	case len(rest) == 1 && method == http.MethodDelete:
		return RemoveN, rest[0]
	case len(rest) == 1 && method == http.MethodGet:
		return Network, rest[0]
	case len(rest) == 2 && method == http.MethodPost && rest[1] == "connect":
		return Connect, rest[0]
	}
	return "", ""
}

// image is the id of an image by tag, id or digest; "": there is none.
func (m *machine) image(reference string) string {
	if id := m.images[reference]; id != "" {
		return id
	}
	_, digest, _ := strings.Cut(reference, "@")
	for _, id := range m.images {
		if id == reference || id == digest {
			return id
		}
	}
	return ""
}

// doImage executes an operation on images. The lock is held.
func (a api) doImage(r *http.Request, q *request) (int, any, *refusal) {
	if q.op == Import {
		tag := r.URL.Query().Get("repo")
		a.images[tag] = digest(tag)
		return http.StatusOK, map[string]string{"status": digest(tag)}, nil
	}
	id := a.image(q.id)
	if id == "" {
		return 0, nil, no(http.StatusNotFound, "No such image: %s", q.id)
	}
	switch q.op {
	case Tag:
		repo := strings.TrimPrefix(r.URL.Query().Get("repo"), "docker.io/library/")
		a.images[repo+":"+r.URL.Query().Get("tag")] = id
		return http.StatusCreated, nil, nil
	case RemoveI:
		delete(a.images, q.id)
		return http.StatusOK, []map[string]string{{"Untagged": q.id}}, nil
	}
	tags := []string{}
	for tag, of := range a.images {
		if of == id {
			tags = append(tags, tag)
		}
	}
	return http.StatusOK, map[string]any{
		"Id": id, "RepoTags": tags, "RepoDigests": []string{}, "Os": "linux", "Architecture": "amd64", "Size": 1 << 20,
	}, nil
}

// doNetwork executes an operation on networks. The lock is held.
func (a api) doNetwork(q *request, body []byte) (int, any, *refusal) {
	var c struct {
		Name, Container string
		EndpointConfig  struct{ Aliases []string }
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &c); err != nil {
			return 0, nil, no(http.StatusBadRequest, "%v", err)
		}
	}
	if q.op == CreateN {
		if a.networks[c.Name] != nil {
			return 0, nil, no(http.StatusConflict, "network with name %s already exists", c.Name)
		}
		a.seq++
		_, id, _ := strings.Cut(digest(fmt.Sprint("network ", a.seq)), ":")
		a.networks[c.Name] = &subnet{id: id, on: map[knowledge.ContainerID][]string{}}
		return http.StatusCreated, map[string]string{"Id": id, "Warning": ""}, nil
	}
	n := a.networks[q.id]
	for _, other := range a.networks {
		if other.id == q.id {
			n = other
		}
	}
	switch {
	case n == nil:
		return 0, nil, no(http.StatusNotFound, "network %s not found", q.id)
	case q.op == Network:
		return http.StatusOK, map[string]string{"Name": q.id, "Id": n.id}, nil
	case q.op == RemoveN && len(n.on) > 0:
		return 0, nil, no(http.StatusForbidden, "error while removing network: network %s id %s has active endpoints", q.id,
			n.id)
	case q.op == RemoveN:
		delete(a.networks, q.id)
		return http.StatusNoContent, nil, nil
	}
	b, refused := a.find(c.Container)
	if refused != nil {
		return 0, nil, refused
	}
	if _, ok := n.on[b.id]; ok {
		return 0, nil, no(http.StatusForbidden, "endpoint with name %s already exists in network %s", b.spec.Name, q.id)
	}
	n.on[b.id] = c.EndpointConfig.Aliases
	return http.StatusOK, nil, nil
}
