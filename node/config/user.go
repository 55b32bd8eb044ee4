package config

import (
	"os"
	"path/filepath"
)

// LoadForUser is Load with the paths that the user who runs the program can use. A socket
// that is not empty takes precedence.
func LoadForUser(file string, env []string, socket string) (Config, error) {
	c, err := Load(file, env)
	if err != nil {
		return c, err
	}
	c.FitUser()
	if socket != "" {
		c.API.Socket = socket
	}
	return c, nil
}

// FitUser replaces the defaults of node.data_dir and api.socket, which only root can
// create, by paths of the user.
func (c *Config) FitUser() {
	if os.Geteuid() == 0 || os.Getenv("STATE_DIRECTORY") != "" {
		return
	}
	if c.OriginOf("node.data_dir").Source == FromDefault {
		if home, err := os.UserHomeDir(); err == nil {
			c.Node.DataDir = filepath.Join(home, ".local", "state", "effiscale")
		}
	}
	if c.OriginOf("api.socket").Source == FromDefault {
		c.API.Socket = userSocket()
	}
}

// userSocket is in a directory that no other user can write to: elsewhere another user's
// socket could take its place and answer.
func userSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "effiscale.sock")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "effiscale", "effiscale.sock")
	}
	return Defaults().API.Socket
}

// Sockets are the paths where a daemon's socket may be, in the order of trying.
func Sockets() []string {
	system := Defaults().API.Socket
	if os.Geteuid() == 0 {
		return []string{system}
	}
	return []string{userSocket(), system}
}
