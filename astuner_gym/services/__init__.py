"""Environment services in processes of their own, leased to one episode at a time; sandboxes."""
