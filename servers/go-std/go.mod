module tare/servers/go-std

go 1.26
