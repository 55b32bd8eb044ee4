package docker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/effiscale/effiscale/knowledge"
)

// object is a JSON object whose unknown fields are kept: the typed structs of a client drop
// what a newer Engine added.
type object map[string]json.RawMessage

// get decodes a field; a missing one is the zero value, one of another type an error of c.
func get[T any](c *cloning, r object, key string) (v T) {
	if b, ok := r[key]; ok {
		if err := json.Unmarshal(b, &v); err != nil {
			c.malformed = errors.Join(c.malformed, fmt.Errorf("the inspect's field %s: %w", key, err))
		}
	}
	return v
}

func (r object) set(key string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		r[key] = b
	}
	return err
}

// attachment is a network of a container and how it is connected to it.
type attachment struct {
	name, id string
	endpoint object
}

// cloning makes the request that creates a container like another one.
type cloning struct {
	o                 knowledge.CloneSpec
	hostName          string
	id                string
	config, host, net object // Config, HostConfig and NetworkSettings of the inspect
	refused           []Uncloneable
	malformed         error
	networks          []attachment
}

// Uncloneable is a field of a container that a clone cannot have.
type Uncloneable struct {
	Field string // of the Engine's inspect
	Why   string
	// Allow is the value of the label effiscale.allow that allows it nevertheless; empty: none does.
	Allow string
}

func (u Uncloneable) String() string {
	s := u.Field + ": " + u.Why
	if u.Allow != "" {
		s += " (allowed by the label " + knowledge.LabelAllow + "=" + u.Allow + ")"
	}
	return s
}

var errInspect = errors.New("the answer to the inspect has no configuration")

// cloneBody converts the answer to an inspect to the body that creates the clone, and the
// networks that it has to join before its start.
func cloneBody(inspect []byte, o knowledge.CloneSpec, hostName string) (body []byte, more []attachment, err error) {
	var all object
	if err := json.Unmarshal(inspect, &all); err != nil {
		return nil, nil, fmt.Errorf("cannot read the answer to the inspect: %w", err)
	}
	c := &cloning{o: o, hostName: hostName}
	c.id, c.config = get[string](c, all, "Id"), get[object](c, all, "Config")
	c.host, c.net = get[object](c, all, "HostConfig"), get[object](c, all, "NetworkSettings")
	if c.config == nil || c.host == nil || !knowledge.FullID(c.id) {
		return nil, nil, errInspect
	}
	c.refuseIsolation()
	name := strings.TrimPrefix(get[string](c, all, "Name"), "/")
	mounts := get[[]mountPoint](c, all, "Mounts")
	err = errors.Join(c.patchConfig(all), c.patchHost(), c.patchVolumes(mounts), c.patchNetworks(), c.malformed)
	if err == nil && len(c.refused) > 0 {
		err = &CloneError{Name: name, Fields: c.refused}
	}
	if err != nil {
		return nil, nil, err
	}
	body, err = c.body()
	return body, c.networks, err
}

// body is Config with HostConfig and NetworkingConfig beside its fields. An API before
// 1.44 takes one network; the others are left in c.networks.
func (c *cloning) body() ([]byte, error) {
	request := maps.Clone(c.config)
	mode := get[string](c, c.host, "NetworkMode")
	if first := c.first(mode); first >= 0 {
		n := c.networks[first]
		c.networks = slices.Delete(c.networks, first, first+1)
		mode = n.name
		err := request.set("NetworkingConfig", map[string]any{"EndpointsConfig": map[string]object{mode: n.endpoint}})
		if err != nil {
			return nil, err
		}
	}
	err := errors.Join(c.host.set("NetworkMode", mode), request.set("HostConfig", c.host))
	if err != nil {
		return nil, err
	}
	return json.Marshal(request)
}

// first is the network to create the clone on: the template's own, or another one if that was
// disconnected since; -1: the mode alone says it.
func (c *cloning) first(mode string) int {
	switch mode {
	case "", "default", "bridge", "host", "none":
		return -1
	}
	own := slices.IndexFunc(c.networks, func(n attachment) bool { return n.name == mode || n.id == mode })
	if own < 0 && len(c.networks) > 0 {
		return 0
	}
	return own
}

// refuse notes a field that cannot be cloned, unless the template's label allows it.
func (c *cloning) refuse(field, why, allow string) {
	if allow == "" || !slices.Contains(c.o.Allow, allow) {
		c.refused = append(c.refused, Uncloneable{field, why, allow})
	}
}

// refuseIsolation refuses what lets two containers act on the same thing.
func (c *cloning) refuseIsolation() {
	if get[bool](c, c.host, "Privileged") {
		c.refuse("HostConfig.Privileged", "it may change the host", "privileged")
	}
	for _, key := range []string{"NetworkMode", "IpcMode", "PidMode"} {
		switch mode, other, _ := strings.Cut(get[string](c, c.host, key), ":"); {
		case mode == "container":
			c.refuse("HostConfig."+key, "it depends on container "+shorten(other), "")
		case mode == "host" && key != "NetworkMode":
			name := strings.ToLower(strings.TrimSuffix(key, "Mode"))
			c.refuse("HostConfig."+key, "it shares the "+name+" namespace of the host", "host-"+name)
		}
	}
	if len(get[[]object](c, c.host, "DeviceRequests")) > 0 {
		c.refuse("HostConfig.DeviceRequests", "it uses a GPU or another requested device", "gpu")
	}
	if from := get[[]string](c, c.host, "VolumesFrom"); len(from) > 0 {
		c.refuse("HostConfig.VolumesFrom", "it writes to the volumes of "+strings.Join(from, ", "), "shared-volumes")
	}
	if get[string](c, c.config, "MacAddress") != "" {
		c.refuse("Config.MacAddress", "a MAC address can exist once", "mac-address")
	}
}

func (c *cloning) patchConfig(all object) error {
	delete(c.config, "MacAddress")
	image := c.o.Image
	if image == "" {
		image = get[string](c, all, "Image")
	}
	labels := get[map[string]string](c, c.config, "Labels")
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, labelComposeReplace)
	maps.Copy(labels, c.o.Labels)
	err := errors.Join(c.config.set("Image", image), c.config.set("Labels", labels),
		c.config.set("Hostname", c.hostname(get[string](c, c.config, "Hostname"))))
	if bytes.Equal(c.config["Entrypoint"], []byte("null")) {
		// The Engine would take the image's; an empty one clears it.
		err = errors.Join(err, c.config.set("Entrypoint", []string{""}))
	}
	return err
}

// hostname is that of the clone: the Engine makes one from the id where none was set. One
// that was set gets the slot's number behind it.
func (c *cloning) hostname(set string) string {
	if set == "" || strings.HasPrefix(c.id, set) ||
		get[string](c, c.host, "NetworkMode") == "host" && set == c.hostName {
		return ""
	}
	name, domain, _ := strings.Cut(set, ".")
	name += "-" + strconv.Itoa(c.o.Slot)
	if domain != "" {
		name += "." + domain
	}
	if label, _, _ := strings.Cut(name, "."); len(label) > 63 || len(name) > 253 {
		c.refuse("Config.Hostname", fmt.Sprintf("%q with a slot's number is longer than a host name may be", set), "")
	}
	return name
}

func (c *cloning) patchHost() error {
	delete(c.host, "ContainerIDFile")
	links, err := linksOf(get[[]string](c, c.host, "Links"))
	if err != nil {
		c.refuse("HostConfig.Links", err.Error(), "")
	}
	return errors.Join(
		c.host.set("PortBindings", object{}), c.host.set("PublishAllPorts", false), c.host.set("AutoRemove", false),
		c.host.set("RestartPolicy", map[string]any{"Name": "no", "MaximumRetryCount": 0}),
		c.host.set("Links", links))
}

// linksOf converts "/db:/web/alias" of an inspect to "db:alias" of a create.
func linksOf(inspected []string) ([]string, error) {
	var out []string
	for _, l := range inspected {
		target, alias, ok := strings.Cut(l, ":")
		if !ok || path.Base(alias) == "/" {
			return nil, fmt.Errorf("the link %q has no alias", l)
		}
		out = append(out, strings.TrimPrefix(target, "/")+":"+path.Base(alias))
	}
	return out, nil
}

// mountPoint is an entry of Mounts in an inspect.
type mountPoint struct {
	Type, Name, Source, Destination string
	RW                              bool
}

// patchVolumes gives the clone volumes of its own for the anonymous ones, and refuses
// what two containers would write to.
func (c *cloning) patchVolumes(points []mountPoint) error {
	volumes := get[map[string]struct{}](c, c.config, "Volumes")
	if volumes == nil {
		volumes = map[string]struct{}{}
	}
	fresh := map[string]bool{} // destinations of anonymous volumes
	for _, p := range points {
		switch {
		case p.Type == "volume" && c.anonymous(p.Name):
			fresh[p.Destination] = true
		case (p.Type == "volume" || p.Type == "bind") && p.RW:
			what := p.Source
			if p.Type == "volume" {
				what = p.Name
			}
			c.refuse("Mounts", fmt.Sprintf("it writes to the %s %s at %s", p.Type, what, p.Destination), "shared-volumes")
		}
	}
	seen := map[string]bool{}
	mounts := c.mounts(fresh, seen)
	var binds []string
	for _, b := range get[[]string](c, c.host, "Binds") {
		switch target := bindTarget(b); {
		case fresh[target]:
			volumes[target] = struct{}{}
		case !seen[target]:
			binds = append(binds, b)
			seen[target] = true
		}
	}
	err := c.host.set("Binds", binds)
	if len(mounts) > 0 || c.host["Mounts"] != nil {
		err = errors.Join(err, c.host.set("Mounts", mounts))
	}
	if len(volumes) > 0 {
		err = errors.Join(err, c.config.set("Volumes", volumes))
	}
	return err
}

// mounts are the entries of HostConfig.Mounts, the ones of anonymous volumes without
// their source. It adds the targets to seen.
func (c *cloning) mounts(fresh, seen map[string]bool) (out []object) {
	for _, m := range get[[]object](c, c.host, "Mounts") {
		target := path.Clean(get[string](c, m, "Target"))
		if seen[target] {
			continue
		}
		seen[target] = true
		if fresh[target] && get[string](c, m, "Type") == "volume" {
			delete(m, "Source")
		}
		out = append(out, m)
	}
	return out
}

// anonymous reports whether a volume was made for one container. Compose gives such a
// volume to the next container of a service by its name.
func (c *cloning) anonymous(volume string) bool {
	return knowledge.FullID(knowledge.ContainerID(volume)) || slices.Contains(c.o.Anonymous, volume)
}

// bindTarget is the path in the container of "source:/target:options".
func bindTarget(bind string) string {
	parts := strings.Split(bind, ":")
	if len(parts) < 2 {
		return ""
	}
	return path.Clean(parts[1])
}

// chosenByEngine are the fields of an endpoint that nobody asked for.
var chosenByEngine = [...]string{
	"NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address",
	"GlobalIPv6PrefixLen",
	"MacAddress", "DNSNames",
}

// patchNetworks keeps what was asked of each network. The aliases are left out: Docker's
// DNS would return a replica before it is ready.
func (c *cloning) patchNetworks() error {
	networks := get[map[string]object](c, c.net, "Networks")
	mode := get[string](c, c.host, "NetworkMode")
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		bridge := name == "bridge" && (mode == "" || mode == "default" || mode == name)
		if name == "host" || name == "none" || bridge {
			continue
		}
		e := networks[name]
		if e == nil {
			e = object{}
		}
		n := attachment{name, get[string](c, e, "NetworkID"), e}
		for _, key := range chosenByEngine {
			delete(e, key)
		}
		if err := e.set("Aliases", []string(nil)); err != nil {
			return err
		}
		ipam := get[object](c, e, "IPAMConfig")
		for _, key := range []string{"IPv4Address", "IPv6Address", "LinkLocalIPs"} {
			if v := string(ipam[key]); v != "" && v != `""` && v != "null" && v != "[]" {
				c.refuse("NetworkSettings.Networks."+name+".IPAMConfig", "an address can exist once", "static-address")
				e["IPAMConfig"] = json.RawMessage("null")
			}
		}
		c.networks = append(c.networks, n)
	}
	return nil
}
