"""FuLLet: fair, merged picture queue for ComfyUI on Discord."""
