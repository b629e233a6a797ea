"""Audio in and text out by HTTP and WebSocket. In: sockets of browsers. Out: messages on the daemons' subjects, and theirs."""
