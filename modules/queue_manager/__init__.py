"""Who is served when: knows the ports, but no ComfyUI, Discord or SQL."""
