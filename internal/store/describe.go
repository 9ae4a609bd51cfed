package store

import (
	"net"
	"strconv"
	"strings"
)

// ValidateDSN tells what is wrong with a DSN of PostgreSQL, without connecting
// and without showing any of it.
func ValidateDSN(dsn string) error {
	_, err := poolConfig(dsn, 0)
	return err
}

// DescribeDSN names the hosts and the database of a DSN: "db1:5432,db2:5432/platform".
func DescribeDSN(dsn string) string {
	c, err := poolConfig(dsn, 0)
	if err != nil {
		return ""
	}
	first := net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port)))
	hosts := []string{first}
	for _, f := range c.ConnConfig.Fallbacks {
		host := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
		if host != hosts[len(hosts)-1] {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ",") + "/" + c.ConnConfig.Database
}
